//! What is wrong is one line on standard error, with the fix, and the right exit code.

use std::path::Path;
use std::process::Output;

use rustix::process::{geteuid, getuid};
use tokio::net::TcpListener;

use crate::program::{Home, OPERATOR_KEY, binary, clean};

/// Runs the program to its end.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = clean(binary(), arguments);
    command.envs(variables.iter().copied());
    let ended = tokio::time::timeout(testkit::PATIENCE, command.output()).await;
    ended.unwrap_or_else(|_| panic!("{arguments:?} {variables:?} does not end")).unwrap()
}

/// The one line of a program that ended with this code.
#[track_caller]
fn line(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("postrider: "), "{said}");
    assert!(output.stdout.is_empty());
    said
}

/// Arguments, variables, and words that the line must hold.
type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

#[tokio::test]
async fn wrong_usage_and_configuration_end_with_2_and_name_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let unknown = file("unknown.toml", "lisen = '127.0.0.1:1'");
    let broken = file("broken.toml", "listen = ");
    let noise = file("noise.db", &"this is no database ".repeat(300));
    let noise = format!("sqlite:{noise}");
    let nowhere = format!("sqlite:{}/no/such/folder/p.db", folder.path().display());
    let table: &[Row<'_>] = &[
        (&[], &[], &["serve", "demo", "--help"]),
        (&["sevre"], &[], &["sevre", "serve"]),
        (&["serve", "--lisen", "x"], &[], &["--lisen", "--listen"]),
        (&["serve", "--listen", "8080"], &[], &["--listen", "8080", "127.0.0.1:8080"]),
        (&["serve"], &[("POSTRIDER_LISTEN", "x")], &["POSTRIDER_LISTEN", "127.0.0.1:8080"]),
        (&["serve"], &[("POSTRIDER_LISTN", "x")], &["POSTRIDER_LISTN", "POSTRIDER_LISTEN"]),
        (&["serve", "--store", "postgres://localhost/p"], &[], &["PostgreSQL", "sqlite:"]),
        (&["serve", "--store", "mysql:p"], &[], &["--store", "sqlite:PATH"]),
        (&["serve", "--store", &nowhere], &[], &["directory", "--store"]),
        (&["serve", "--store", &noise], &[], &["not a Postrider database", "--store"]),
        (&["serve", "--allow-target", "10.0.0.0/99"], &[], &["--allow-target", "127.0.0.0/8"]),
        (&["serve"], &[("POSTRIDER_ALLOW_TARGETS", "lan")], &["POSTRIDER_ALLOW_TARGETS"]),
        (&["serve", "--allow-http=yes"], &[], &["--allow-http", "true"]),
        (&["serve"], &[("POSTRIDER_OPERATOR_KEY", "short")], &["POSTRIDER_OPERATOR_KEY", "32"]),
        (&["serve", "--log-format", "xml"], &[], &["--log-format", "human", "json"]),
        (&["serve", "--config", &unknown], &[], &["lisen", "unknown.toml", "listen"]),
        (&["serve", "--config", &broken], &[], &["broken.toml", "line 1"]),
        (&["serve", "--config", "/nowhere.toml"], &[], &["/nowhere.toml", "--config"]),
        (&["serve", "--tls-ca", "/nowhere.pem"], &[], &["/nowhere.pem", "--tls-ca"]),
        (&["serve", "--egress-proxy", "https://p:1"], &[], &["--egress-proxy", "socks5://"]),
        (&["serve"], &[("POSTRIDER_EGRESS_PROXY", "http://u:w@p")], &["_PROXY=\"…\"", "port"]),
        (&["demo", "--twice"], &[], &["--twice"]),
    ];
    for (arguments, variables, words) in table {
        let mut variables = variables.to_vec();
        variables.push(("HOME", folder.path().to_str().unwrap()));
        let said = line(&run(arguments, &variables).await, 2);
        for word in *words {
            assert!(said.contains(word), "{arguments:?}: {word} is not in: {said}");
        }
    }
}

#[tokio::test]
async fn a_port_in_use_is_a_failure_with_the_fix() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    let store = format!("sqlite:{}", home.store().display());
    let said = line(&run(&["serve", "--listen", &address, "--store", &store], &[]).await, 1);
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
    assert!(!home.store().exists(), "a failed start leaves a store behind");
}

#[tokio::test]
async fn a_second_process_on_the_same_store_is_refused_and_the_first_goes_on() {
    let home = Home::new();
    let service = home.serve().await;
    let arguments = home.arguments();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let said = line(&run(&arguments, &[("POSTRIDER_OPERATOR_KEY", OPERATOR_KEY)]).await, 1);
    assert!(said.contains("another process") && said.contains("--store"), "{said}");
    service.operator().get("/api/v1/accounts").await;
    service.terminate();
    assert!(service.ended().await.success());
}

#[tokio::test]
async fn a_read_only_folder_is_a_failure_with_the_fix() {
    let home = Home::new();
    let arguments = home.arguments();
    let mut command = clean(binary(), &[]);
    let elsewhere = tempfile::tempdir().unwrap();
    if geteuid().is_root() {
        // Root may write anywhere, so somebody else runs a copy that he can reach.
        const NOBODY: u32 = 65_534;
        let copy = elsewhere.path().join("postrider");
        std::fs::copy(binary(), &copy).unwrap();
        permit(elsewhere.path(), 0o755);
        command = clean(&copy, &[]);
        command.uid(NOBODY);
    }
    assert_eq!(getuid(), geteuid());
    permit(home.folder(), 0o555);
    let output = command.args(&arguments).output().await.unwrap();
    permit(home.folder(), 0o755);
    let said = line(&output, 1);
    assert!(said.contains("write access"), "{said}");
}

fn permit(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_store_of_a_later_version_is_a_failure_with_the_fix() {
    let home = Home::new();
    let service = home.serve().await;
    service.terminate();
    assert!(service.ended().await.success());
    let database = rusqlite::Connection::open(home.store()).unwrap();
    database.pragma_update(None, "user_version", 9_999).unwrap();
    drop(database);
    let arguments = home.arguments();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let said = line(&run(&arguments, &[]).await, 1);
    assert!(said.contains("later Postrider"), "{said}");
}
