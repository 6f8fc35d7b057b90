use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn read_file(text: &str) -> Result<Config, String> {
    let file = file(text);
    let read = Config::read(Flags::default(), Environment::default(), Some(file.path()));
    read.map_err(|ending| {
        assert!(matches!(ending, Ending::Misconfigured(_)));
        ending.to_string().replace(&file.path().display().to_string(), "FILE")
    })
}

#[test]
fn the_defaults_are_those_of_the_policy() {
    let config = Config::defaults();
    let policy = engine::settings::Settings::default();
    assert_eq!(format!("{:?}", config.engine), format!("{policy:?}"));
    assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.store, StoreLocation::Sqlite("postrider.db".into()));
    assert_eq!(config.jogg_v2_http_status, HttpStatus::default());
    assert_eq!(config.worker_threads, None);
}

#[test]
fn flags_beat_environment_beats_file_beats_default() {
    let file = file("listen = '127.0.0.1:1'\nstore = 'sqlite:file'\nin_flight_max = 7\n");
    let path = file.path().display().to_string();
    let environment = environment(&[
        ("POSTRIDER_CONFIG", &path),
        ("POSTRIDER_LISTEN", "127.0.0.1:2"),
        ("POSTRIDER_STORE", "sqlite:environment"),
        ("POSTRIDER_LOG", ""),
    ]);
    let flags = Flags::default().with("listen", "127.0.0.1:3");
    let config = Config::read(flags, environment, None).unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.store, StoreLocation::Sqlite("environment".into()));
    assert_eq!(config.engine.in_flight_max, 7);
    assert_eq!(config.log.filter, "info");
}

#[test]
fn every_option_can_be_given_in_the_environment_and_in_the_file_and_means_the_same() {
    let key = ("operator_key", "0123456789abcdef0123456789abcdef");
    for setting in &settings::ALL {
        let example = if setting.key == key.0 { key.1 } else { setting.example };
        let variables = environment(&[(setting.variable, example)]);
        let by_environment = Config::read(Flags::default(), variables, None).unwrap();
        let line = file::toml_value(setting, &setting.split(example));
        let by_file = read_file(&format!("{} = {line}", setting.key)).unwrap();
        assert_eq!(format!("{by_environment:?}"), format!("{by_file:?}"), "{}", setting.key);
        if setting.example != setting.default {
            let defaults = format!("{:?}", Config::defaults());
            assert_ne!(format!("{by_file:?}"), defaults, "{} has no effect", setting.key);
        }
    }
}

#[test]
fn the_printed_configuration_is_read_back_as_the_same() {
    let flags = || Flags::default().with("allow_targets", "127.0.0.0/8").with("plans", "a=1/2");
    let printed = Config::print(flags(), Environment::default(), None).unwrap();
    let config = Config::read(flags(), Environment::default(), None).unwrap();
    assert_eq!(format!("{:?}", read_file(&printed).unwrap()), format!("{config:?}"));
}

#[test]
fn payloads_are_kept_no_longer_than_the_records_with_which_they_go() {
    let flags = Flags::default().with("records_kept_days", "5");
    let retention = Config::read(flags, Environment::default(), None).unwrap().engine.retention;
    assert_eq!(retention.records_kept_for, Duration::from_hours(5 * 24));
    assert_eq!(retention.delivered_payloads_kept_for, retention.records_kept_for);
}

#[test]
fn an_emptied_option_is_printed_as_emptied() {
    let file = file("plans = {}");
    let printed = Config::print(Flags::default(), Environment::default(), Some(file.path()));
    assert!(read_file(&printed.unwrap()).unwrap().engine.plans.is_empty());
}

#[test]
fn the_default_configuration_is_documented() {
    let printed = Config::print(Flags::default(), Environment::default(), None).unwrap();
    insta::assert_snapshot!(printed);
}

#[test]
fn the_operator_key_is_neither_printed_nor_repeated() {
    let short = environment(&[("POSTRIDER_OPERATOR_KEY", "hunter2")]);
    let refused = Config::read(Flags::default(), short, None).unwrap_err().to_string();
    assert!(!refused.contains("hunter2"), "{refused}");
    let key = "0123456789abcdef0123456789abcdef";
    let variables = environment(&[("POSTRIDER_OPERATOR_KEY", key)]);
    let printed = Config::print(Flags::default(), variables, None).unwrap();
    assert!(!printed.contains(key), "{printed}");
}

#[test]
fn the_password_of_a_proxy_is_neither_printed_nor_repeated() {
    let given = |url: &str| {
        let variables = environment(&[("POSTRIDER_EGRESS_PROXY", url)]);
        let file_text = format!("egress_proxy = '{url}'");
        let flags = Flags::default().with("egress_proxy", url);
        [
            Config::read(flags.clone(), Environment::default(), None),
            Config::read(Flags::default(), variables.clone(), None),
            read_file(&file_text).map_err(Ending::misconfigured),
        ]
        .map(|read| read.map_or_else(|ending| ending.to_string(), |config| format!("{config:?}")))
        .into_iter()
        .chain([Config::print(flags, Environment::default(), None).unwrap_or_default()])
    };
    for url in [
        "socks5://walter:hunter2@10.0.0.9:1080",
        "ftp://walter:hunter2@10.0.0.9:1080",
        "http://walter:hunter2@10.0.0.9",
        "http://walter:hunter2:hunter2@10.0.0.9:1",
        "http://walter:hunter2",
    ] {
        for text in given(url) {
            assert!(!text.contains("hunter2") && !text.contains("walter"), "{url}: {text}");
        }
    }
    let printed = given("socks5://walter:hunter2@10.0.0.9:1080").last().unwrap();
    assert!(printed.contains("# egress_proxy = \"…@10.0.0.9:1080\""), "{printed}");
    let printed = given("socks5://10.0.0.9:1080").last().unwrap();
    assert!(printed.contains("\negress_proxy = \"socks5://10.0.0.9:1080\""), "{printed}");
}

#[test]
fn a_wrong_value_is_refused_in_the_words_of_whoever_gave_it() {
    let flag = |key, value: &str| {
        Config::read(Flags::default().with(key, value), Environment::default(), None)
            .unwrap_err()
            .to_string()
    };
    let refusals = [
        flag("listen", "8080"),
        flag("store", "postgres://localhost/postrider"),
        flag("store", "postrider.db"),
        flag("allow_targets", "127.0.0.0/8,private"),
        flag("allow_ports", "70000"),
        flag("in_flight_max", "0"),
        flag("retry_schedule", "5,30"),
        flag("plans", "trial"),
        flag("log", "engine=loud"),
        flag("log_format", "xml"),
        flag("jogg_v2.http_status", "200"),
        flag("in_flight_per_host_max", "65537"),
        flag("payloads_kept_days", "4"),
        flag("records_kept_days", "a month"),
        flag("otlp_endpoint", "https://collector:4318"),
        flag("otlp_endpoint", "http://walter:hunter2@collector:4318"),
        flag("otlp_endpoint", "http://collector:4318/?key=hunter2"),
        flag("egress_proxy", "https://egress:3128"),
        flag("egress_proxy", "http://walter:hunter2@egress"),
    ];
    insta::assert_snapshot!(refusals.join("\n"));
    let variable = |name, value| {
        let variables = environment(&[(name, value)]);
        Config::read(Flags::default(), variables, None).unwrap_err().to_string()
    };
    let refusals = [
        variable("POSTRIDER_LISTEN", "localhost"),
        variable("POSTRIDER_ALLOW_HTTP", "yes"),
        variable("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8, 10.0.0.0/99"),
        variable("POSTRIDER_OPERATOR_KEY", "short"),
        variable("POSTRIDER_ALOW_HTTP", "true"),
        variable("POSTRIDER_CONFIG", "/nowhere.toml"),
    ];
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn a_wrong_file_is_refused_with_its_place() {
    let refused = |text| read_file(text).unwrap_err();
    let refusals = [
        refused("listen = '127.0.0.1'"),
        refused("lisen = '127.0.0.1:1'"),
        refused("[jogg_v2]\nhttp_state = 'mapped'"),
        refused("[jogg]\nhttp_status = 'mapped'"),
        refused("jogg_v2 = 1"),
        refused("listen = 8080"),
        refused("allow_http = 'yes'"),
        refused("allow_targets = '127.0.0.0/8'"),
        refused("allow_targets = [1]"),
        refused("allow_targets = ['10.0.0.0/99']"),
        refused("in_flight_max = 0"),
        refused("retry_schedule = ['0']"),
        refused("[plans.trial]\nper_minute = 10"),
        refused("operator_key = 'hunter2'"),
        refused("\nlisten = \n"),
    ];
    insta::assert_snapshot!(refusals.join("\n"));
}
