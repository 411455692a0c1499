//! Where the programs under test are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Names the folder of `muster` and `muster-agent`; without it they are looked for beside this test's own program.
pub const BIN_DIR: &str = "MUSTER_BIN_DIR";

/// Names the Python that has the clients of other projects.
pub const PYTHON: &str = "MUSTER_PYTHON";

/// Names an agent built for aarch64.
pub const AARCH64_AGENT: &str = "MUSTER_AARCH64_AGENT";

/// The fleet's server and command line.
#[must_use]
pub fn muster() -> PathBuf {
    program("muster")
}

/// The device's program.
#[must_use]
pub fn muster_agent() -> PathBuf {
    program("muster-agent")
}

/// The Python of [`PYTHON`].
#[must_use]
pub fn python() -> PathBuf {
    from_environment(PYTHON, "a Python with the packages of tests/setup")
}

/// The agent of [`AARCH64_AGENT`].
#[must_use]
pub fn aarch64_agent() -> PathBuf {
    from_environment(AARCH64_AGENT, "an agent made by `cross/build aarch64-unknown-linux-gnu --with debian`")
}

/// A program that a Debian package brings.
#[must_use]
pub fn from_debian(name: &str, package: &str) -> PathBuf {
    let found = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
    });
    found.unwrap_or_else(|| {
        panic!("{name} is not here: install the Debian package {package}, or run tests/run, which does")
    })
}

/// The root of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn program(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(
        path.is_file(),
        "{} is not there: run `cargo build -p muster -p muster-agent` with the same profile as this test, or set {BIN_DIR}",
        path.display()
    );
    path
}

fn folder() -> PathBuf {
    if let Some(folder) = env::var_os(BIN_DIR) {
        return PathBuf::from(folder);
    }
    let own = env::current_exe().expect("a running program has a path");
    let folder = own.parent().expect("a program lies in a folder");
    if folder.ends_with("deps") { folder.join("..") } else { folder.to_owned() }
}

fn from_environment(variable: &str, what: &str) -> PathBuf {
    let Some(path) = env::var_os(variable).map(PathBuf::from) else {
        panic!("{variable} is not set; it names {what}. tests/run makes it and sets the variable");
    };
    assert!(path.is_file(), "{variable} is {}, where there is no file", path.display());
    path
}
