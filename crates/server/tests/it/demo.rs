//! The demonstration is what a newcomer runs first.

use crate::program::{binary, clean};

#[tokio::test]
async fn the_demonstration_delivers_and_verifies_every_documented_sample() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = clean(binary(), &["demo", "--once"]);
    let output = command.current_dir(folder.path()).output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let verified =
        said.lines().filter(|line| line.starts_with('✓') && line.contains("signature ok"));
    assert_eq!(verified.count(), 30, "{said}");
    assert!(said.contains("30 of 30 sample events delivered and verified"), "{said}");
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "it leaves files behind");
}
