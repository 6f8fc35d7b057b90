//! From flags, environment, file and defaults to one value per option, and back to the words of
//! whoever gave a wrong one.
//!
//! Promise: flags beat environment beats file beats default, option by option; a refusal names the
//! very flag, variable or key that was written and shows a right value. Secrets are not repeated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file::{self, toml_value};
use super::settings::{ALL, Setting};
use crate::ending::Ending;

/// What stands before the name of every variable of ours.
const VARIABLE_PREFIX: &str = "POSTRIDER_";

/// Names this few letters apart from a known one are mistakes, not somebody else's.
const TYPO_DISTANCE_MAX: usize = 2;

/// The variable that names the file.
pub(crate) const CONFIG_VARIABLE: &str = "POSTRIDER_CONFIG";

/// Values by key.
pub(crate) type Values = BTreeMap<&'static str, Vec<String>>;

/// The environment's variables that begin with `POSTRIDER_`. An empty one counts as not set, since
/// container tools cannot unset.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// This process's.
    pub fn of_process() -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect()
    }

    /// The value of a variable.
    pub(crate) fn get(&self, variable: &str) -> Option<&str> {
        self.0.get(variable).map(String::as_str)
    }

    /// Refuses variables that differ from a known one by a slip of the pen. Others are let be:
    /// container tools set `POSTRIDER_…` variables of their own.
    fn check_names(&self) -> Result<(), Ending> {
        let known = || ALL.iter().map(|setting| setting.variable).chain([CONFIG_VARIABLE]);
        for name in self.0.keys() {
            if known().any(|variable| variable == name) {
                continue;
            }
            let near = known()
                .map(|variable| (strsim::damerau_levenshtein(name, variable), variable))
                .min();
            if let Some((1..=TYPO_DISTANCE_MAX, variable)) = near {
                let line = format!("{name} is no option: rename it to {variable}, or remove it");
                return Err(Ending::misconfigured(line));
            }
        }
        Ok(())
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let ours = |(name, value): &(String, String)| {
            name.starts_with(VARIABLE_PREFIX) && !value.is_empty()
        };
        Self(variables.into_iter().filter(ours).collect())
    }
}

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment,
    File(PathBuf),
    Default,
}

/// A value as it was given.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) setting: &'static Setting,
    pub(crate) texts: Vec<String>,
    pub(crate) origin: Origin,
}

impl Given {
    /// The one value; `None` if there is none.
    pub(crate) fn one<T>(
        &self,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Ending> {
        self.texts.last().map(|text| read(text).map_err(|why| self.refusal(text, &why))).transpose()
    }

    /// Every value.
    pub(crate) fn each<T>(
        &self,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Ending> {
        let texts = self.texts.iter();
        texts.map(|text| read(text).map_err(|why| self.refusal(text, &why))).collect()
    }

    /// All values together.
    pub(crate) fn whole<T>(
        &self,
        read: impl Fn(&[String]) -> Result<T, String>,
    ) -> Result<T, Ending> {
        read(&self.texts).map_err(|why| self.refusal(&self.texts.join(","), &why))
    }

    /// One line: what was written, what is wrong with it, what a right one looks like.
    fn refusal(&self, text: &str, why: &str) -> Ending {
        let setting = self.setting;
        let text = setting.shown_in_refusal(text);
        let line = match (&self.origin, setting.flag) {
            (Origin::Flag, Some(flag)) => {
                format!("--{flag} {text:?} {why}; for example: --{flag} {}", setting.example)
            }
            (Origin::File(path), _) => {
                let key = setting.key;
                let example = toml_value(setting, &setting.split(setting.example));
                format!(
                    "{key} = {text:?} in {} {why}; for example: {key} = {example}",
                    path.display()
                )
            }
            _ => {
                let variable = setting.variable;
                format!("{variable}={text:?} {why}; for example: {variable}={}", setting.example)
            }
        };
        Ending::misconfigured(line)
    }
}

/// All layers.
#[derive(Debug)]
pub(crate) struct Layers {
    flags: Values,
    environment: Environment,
    file: Option<(PathBuf, Values)>,
}

impl Layers {
    /// Reads the file, if one is named, and checks every name.
    pub(crate) fn new(
        flags: Values,
        environment: Environment,
        file: Option<&Path>,
    ) -> Result<Self, Ending> {
        environment.check_names()?;
        let (named_by, path) = match (file, environment.get(CONFIG_VARIABLE)) {
            (Some(path), _) => ("--config", Some(path.to_owned())),
            (None, Some(path)) => (CONFIG_VARIABLE, Some(PathBuf::from(path))),
            (None, None) => ("", None),
        };
        let file = path
            .map(|path| file::read(named_by, &path).map(|values| (path, values)))
            .transpose()?;
        Ok(Self { flags, environment, file })
    }

    /// What was given for an option.
    pub(crate) fn given(&self, setting: &'static Setting) -> Given {
        let (texts, origin) = if let Some(texts) = self.flags.get(setting.key) {
            let texts = texts.iter().flat_map(|text| setting.split(text)).collect();
            (texts, Origin::Flag)
        } else if let Some(text) = self.environment.get(setting.variable) {
            (setting.split(text), Origin::Environment)
        } else if let Some((path, values)) = &self.file
            && let Some(texts) = values.get(setting.key)
        {
            (texts.clone(), Origin::File(path.clone()))
        } else if setting.default.is_empty() {
            (Vec::new(), Origin::Default)
        } else {
            (setting.split(setting.default), Origin::Default)
        };
        Given { setting, texts, origin }
    }
}
