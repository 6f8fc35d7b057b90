//! The options as flags of the command line.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::layers::Values;
use super::settings::{ALL, Setting, Shape};

/// The flags that were given, as texts; [`super::Config::read`] reads them.
#[derive(Clone, Debug, Default)]
pub struct Flags(Values);

impl Flags {
    pub(super) fn into_values(self) -> Values {
        self.0
    }

    /// Gives an option, by its key in the file, in place of the command line.
    ///
    /// # Panics
    ///
    /// When there is no such option.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        let setting = super::settings::find(key).expect("the caller names an option that exists");
        self.0.entry(setting.key).or_default().push(value.into());
        self
    }
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(ALL.iter().filter_map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in ALL.iter().filter(|setting| setting.flag.is_some()) {
            if matches.value_source(setting.key) == Some(ValueSource::CommandLine)
                && let Some(values) = matches.get_many::<String>(setting.key)
            {
                self.0.insert(setting.key, values.cloned().collect());
            }
        }
        Ok(())
    }
}

fn argument(setting: &'static Setting) -> Option<Arg> {
    let default = match setting.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let argument = Arg::new(setting.key)
        .long(setting.flag?)
        .value_name(setting.value_name)
        .help(format!("{}{default} [env: {}]", setting.about, setting.variable));
    Some(match setting.shape {
        Shape::Switch => {
            argument.num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        Shape::Texts | Shape::Plans => argument.action(ArgAction::Append),
        Shape::Numbers => argument.action(ArgAction::Append).allow_hyphen_values(true),
        Shape::Number => argument.allow_hyphen_values(true),
        Shape::Text | Shape::SecretUrl => argument,
    })
}
