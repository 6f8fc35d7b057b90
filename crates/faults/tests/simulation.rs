//! The simulation as the command runs it.

use std::path::Path;
use std::process::Command;

/// Runs one seed in a process of its own; answers its trace.
fn trace_of(seed: &str, folder: &Path) -> String {
    let program = env!("CARGO_BIN_EXE_postrider-faults");
    let ran = Command::new(program)
        .args(["simulate", "--cycles", "1", "--seed", seed, "--postrider", program, "--folder"])
        .arg(folder)
        .current_dir(folder)
        .output()
        .expect("the program can be run");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    std::fs::read_to_string(folder.join(format!("simulate-{seed}.trace")))
        .expect("it leaves its trace")
}

#[test]
fn one_seed_gives_one_trace_in_every_process() {
    for seed in ["3", "6"] {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let trace = trace_of(seed, first.path());
        assert!(trace.lines().count() > 100);
        assert_eq!(trace, trace_of(seed, second.path()), "seed {seed}");
    }
}
