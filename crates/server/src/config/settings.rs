//! Every option: its key in the file, its flag, its environment variable, its default.
//!
//! Promise: an option is added here once and is then on the command line, in the environment, in
//! the file, in `--help` and in `--print-config`.

use std::borrow::Cow;

/// One option.
#[derive(Debug)]
pub struct Setting {
    /// The key in the TOML file; a dot leads into a table.
    pub key: &'static str,
    /// The flag without its dashes; `None` for what must not show in a list of processes.
    pub flag: Option<&'static str>,
    /// The environment variable.
    pub variable: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// What stands for the value in `--help`.
    pub value_name: &'static str,
    /// The value when nobody gives one, as it would be written in the environment; empty for none.
    pub default: &'static str,
    /// A right value, as it would be written in the environment.
    pub example: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// What a value looks like, in the file above all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`; the flag alone means `true`.
    Switch,
    /// Texts; the flag is repeatable, the environment variable separates by commas.
    Texts,
    /// Whole numbers, separated by commas in flag and environment variable.
    Numbers,
    /// Plans, `NAME=PER_MINUTE/PER_DAY`; a table of tables in the file.
    Plans,
    /// A URL that may hold a password before an `@`; shown without it.
    SecretUrl,
}

impl Setting {
    /// Whether it takes several values.
    pub fn is_list(&self) -> bool {
        matches!(self.shape, Shape::Texts | Shape::Numbers | Shape::Plans)
    }

    /// A right value as it may be shown: without a password.
    pub(super) fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match (self.shape, text.rsplit_once('@')) {
            (Shape::SecretUrl, Some((_, rest))) => Cow::Owned(format!("…@{rest}")),
            _ => Cow::Borrowed(text),
        }
    }

    /// A wrong value as it may be shown: not at all where it may be a secret in the wrong place.
    pub(super) fn shown_in_refusal<'a>(&self, text: &'a str) -> &'a str {
        let is_secret = self.flag.is_none() || self.shape == Shape::SecretUrl;
        if is_secret { "…" } else { text }
    }

    /// The values a text of the command line, the environment or this table stands for.
    pub(super) fn split(&self, text: &str) -> Vec<String> {
        if self.is_list() {
            let parts = text.split(',').map(str::trim);
            parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
        } else {
            vec![text.to_owned()]
        }
    }
}

/// The setting of that key.
pub fn find(key: &str) -> Option<&'static Setting> {
    ALL.iter().find(|setting| setting.key == key)
}

/// Every option, in the order of `--help`.
pub static ALL: [Setting; 29] = [
    Setting {
        key: "listen",
        flag: Some("listen"),
        variable: "POSTRIDER_LISTEN",
        shape: Shape::Text,
        value_name: "ADDRESS",
        default: "127.0.0.1:8080",
        example: "127.0.0.1:8080",
        about: "Where to listen: an IP address and a port; port 0 is any free one",
    },
    Setting {
        key: "store",
        flag: Some("store"),
        variable: "POSTRIDER_STORE",
        shape: Shape::Text,
        value_name: "STORE",
        default: "sqlite:postrider.db",
        example: "sqlite:/var/lib/postrider/postrider.db",
        about: "Where everything is kept: sqlite:PATH",
    },
    Setting {
        key: "keys",
        flag: Some("keys"),
        variable: "POSTRIDER_KEYS",
        shape: Shape::Text,
        value_name: "FILE",
        default: "",
        example: "/etc/postrider/keys",
        about: "The file with the keys that seal secrets in storage; without it, the store's path \
                and .keys, made at the first start",
    },
    Setting {
        key: "allow_http",
        flag: Some("allow-http"),
        variable: "POSTRIDER_ALLOW_HTTP",
        shape: Shape::Switch,
        value_name: "BOOL",
        default: "false",
        example: "true",
        about: "Let endpoints be plain http",
    },
    Setting {
        key: "allow_targets",
        flag: Some("allow-target"),
        variable: "POSTRIDER_ALLOW_TARGETS",
        shape: Shape::Texts,
        value_name: "CIDR",
        default: "",
        example: "127.0.0.0/8,10.20.0.0/16",
        about: "Networks that are not public and may be called, on any port; repeatable",
    },
    Setting {
        key: "allow_metadata_targets",
        flag: Some("allow-metadata-target"),
        variable: "POSTRIDER_ALLOW_METADATA_TARGETS",
        shape: Shape::Texts,
        value_name: "CIDR",
        default: "",
        example: "169.254.10.0/24",
        about: "Link-local and cloud metadata addresses that may be called all the same; repeatable",
    },
    Setting {
        key: "allow_ports",
        flag: Some("allow-port"),
        variable: "POSTRIDER_ALLOW_PORTS",
        shape: Shape::Numbers,
        value_name: "PORT",
        default: "",
        example: "9443",
        about: "Ports that may be called beside 443, 8443 and 8843; repeatable",
    },
    Setting {
        key: "nat64",
        flag: Some("nat64"),
        variable: "POSTRIDER_NAT64",
        shape: Shape::Switch,
        value_name: "BOOL",
        default: "false",
        example: "true",
        about: "This machine is behind NAT64: judge 64:ff9b::/96 by the IPv4 address inside",
    },
    Setting {
        key: "tls_ca",
        flag: Some("tls-ca"),
        variable: "POSTRIDER_TLS_CA",
        shape: Shape::Texts,
        value_name: "FILE",
        default: "",
        example: "/etc/postrider/ca.pem",
        about: "PEM files of certificate authorities to trust beside the system's; repeatable",
    },
    Setting {
        key: "name_servers",
        flag: Some("name-server"),
        variable: "POSTRIDER_NAME_SERVERS",
        shape: Shape::Texts,
        value_name: "ADDRESS",
        default: "",
        example: "192.0.2.53:53",
        about: "Name servers to ask instead of the system's; repeatable",
    },
    Setting {
        key: "egress_proxy",
        flag: Some("egress-proxy"),
        variable: "POSTRIDER_EGRESS_PROXY",
        shape: Shape::SecretUrl,
        value_name: "URL",
        default: "",
        example: "http://egress.internal:3128",
        about: "A proxy for all deliveries, http:// (CONNECT) or socks5://, [user:password@]host:port",
    },
    Setting {
        key: "in_flight_max",
        flag: Some("in-flight-max"),
        variable: "POSTRIDER_IN_FLIGHT_MAX",
        shape: Shape::Number,
        value_name: "NUMBER",
        default: "512",
        example: "512",
        about: "Attempts on their way at once",
    },
    Setting {
        key: "in_flight_per_endpoint_max",
        flag: Some("in-flight-per-endpoint-max"),
        variable: "POSTRIDER_IN_FLIGHT_PER_ENDPOINT_MAX",
        shape: Shape::Number,
        value_name: "NUMBER",
        default: "32",
        example: "32",
        about: "Attempts on their way at once to one endpoint that sets no limit of its own",
    },
    Setting {
        key: "in_flight_per_host_max",
        flag: Some("in-flight-per-host-max"),
        variable: "POSTRIDER_IN_FLIGHT_PER_HOST_MAX",
        shape: Shape::Number,
        value_name: "NUMBER",
        default: "64",
        example: "16",
        about: "Attempts on their way at once to one host and port, over all accounts",
    },
    Setting {
        key: "retry_schedule",
        flag: Some("retry-schedule"),
        variable: "POSTRIDER_RETRY_SCHEDULE",
        shape: Shape::Numbers,
        value_name: "SECONDS",
        default: "0,5,30,120,600,1800,3600,10800,21600,43200,86400,86400",
        example: "0,5,30,120",
        about: "Seconds before each attempt, for endpoints that set no schedule of their own",
    },
    Setting {
        key: "payloads_kept_days",
        flag: Some("payloads-kept-days"),
        variable: "POSTRIDER_PAYLOADS_KEPT_DAYS",
        shape: Shape::Number,
        value_name: "DAYS",
        default: "7",
        example: "14",
        about: "Days that the payload of an event is kept that every endpoint got; no longer than records",
    },
    Setting {
        key: "records_kept_days",
        flag: Some("records-kept-days"),
        variable: "POSTRIDER_RECORDS_KEPT_DAYS",
        shape: Shape::Number,
        value_name: "DAYS",
        default: "30",
        example: "90",
        about: "Days that everything else of an event is kept, and the payload if not all got it",
    },
    Setting {
        key: "probe_endpoints",
        flag: Some("probe-endpoints"),
        variable: "POSTRIDER_PROBE_ENDPOINTS",
        shape: Shape::Switch,
        value_name: "BOOL",
        default: "true",
        example: "false",
        about: "Ask a konpro_v1 endpoint with OPTIONS before it is registered",
    },
    Setting {
        key: "account_key_rate",
        flag: Some("account-key-rate"),
        variable: "POSTRIDER_ACCOUNT_KEY_RATE",
        shape: Shape::Text,
        value_name: "RATE",
        default: "100/200",
        example: "100/200",
        about: "Requests to the platform API by one account key: PER_SECOND/BURST, or none for no \
                limit",
    },
    Setting {
        key: "operator_key_rate",
        flag: Some("operator-key-rate"),
        variable: "POSTRIDER_OPERATOR_KEY_RATE",
        shape: Shape::Text,
        value_name: "RATE",
        default: "none",
        example: "20000/40000",
        about: "The same by one operator key, which publishes for all accounts",
    },
    Setting {
        key: "plans",
        flag: Some("plan"),
        variable: "POSTRIDER_PLANS",
        shape: Shape::Plans,
        value_name: "PLAN",
        default: "trial=10/100,pro=60/1000,scale=300/10000",
        example: "trial=10/100",
        about: "Request limits of konpro_v1 plans, NAME=PER_MINUTE/PER_DAY; repeatable",
    },
    Setting {
        key: "jogg_v2.http_status",
        flag: Some("jogg-v2-http-status"),
        variable: "POSTRIDER_JOGG_V2_HTTP_STATUS",
        shape: Shape::Text,
        value_name: "WHICH",
        default: "mapped",
        example: "always_200",
        about: "HTTP status of jogg_v2 errors: mapped, or always_200 for clients that only read code",
    },
    Setting {
        key: "jogg_v2.standard_webhooks_headers",
        flag: Some("jogg-v2-standard-webhooks-headers"),
        variable: "POSTRIDER_JOGG_V2_STANDARD_WEBHOOKS_HEADERS",
        shape: Shape::Switch,
        value_name: "BOOL",
        default: "true",
        example: "false",
        about: "Send the webhook-* headers with jogg_v2 deliveries too",
    },
    Setting {
        key: "konpro_v1.standard_webhooks_headers",
        flag: Some("konpro-v1-standard-webhooks-headers"),
        variable: "POSTRIDER_KONPRO_V1_STANDARD_WEBHOOKS_HEADERS",
        shape: Shape::Switch,
        value_name: "BOOL",
        default: "true",
        example: "false",
        about: "Send the webhook-* headers with konpro_v1 deliveries too",
    },
    Setting {
        key: "operator_key",
        flag: None,
        variable: "POSTRIDER_OPERATOR_KEY",
        shape: Shape::Text,
        value_name: "KEY",
        default: "",
        example: "a-long-random-text-of-32-to-255-characters",
        about: "An operator key beside those in the store; without any, the first start makes one",
    },
    Setting {
        key: "worker_threads",
        flag: Some("worker-threads"),
        variable: "POSTRIDER_WORKER_THREADS",
        shape: Shape::Number,
        value_name: "NUMBER",
        default: "",
        example: "4",
        about: "Threads that do the work; one per core unless given",
    },
    Setting {
        key: "otlp_endpoint",
        flag: Some("otlp-endpoint"),
        variable: "POSTRIDER_OTLP_ENDPOINT",
        shape: Shape::SecretUrl,
        value_name: "URL",
        default: "",
        example: "http://127.0.0.1:4318",
        about: "The OpenTelemetry collector that gets the spans of traces that publishers record",
    },
    Setting {
        key: "log",
        flag: Some("log"),
        variable: "POSTRIDER_LOG",
        shape: Shape::Text,
        value_name: "FILTER",
        default: "info",
        example: "warn,engine=debug",
        about: "What to log: a level, or levels by module",
    },
    Setting {
        key: "log_format",
        flag: Some("log-format"),
        variable: "POSTRIDER_LOG_FORMAT",
        shape: Shape::Text,
        value_name: "FORMAT",
        default: "auto",
        example: "json",
        about: "How to log, to standard error: human, json, or auto for human on a terminal only",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_and_variable_follow_from_the_key() {
        for setting in &ALL {
            let words = setting.key.replace('.', "_");
            assert_eq!(setting.variable, format!("POSTRIDER_{}", words.to_uppercase()));
            if let Some(flag) = setting.flag {
                let name = flag.replace('-', "_");
                let repeatable = setting.is_list() && format!("{name}s") == words;
                assert!(name == words || repeatable, "{flag}");
            }
        }
    }
}
