//! How hard a test looks, and how it says that it cannot look at all.

use std::{env, fs::File, io::Write as _};

/// The seed of a run; `MUSTER_SEED` repeats one.
#[must_use]
#[allow(clippy::print_stderr)] // the seed of a failure is read in the test's output
pub fn seed() -> u64 {
    let seed = env::var("MUSTER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_125);
    eprintln!("MUSTER_SEED={seed}");
    seed
}

/// More of the same where somebody asked for it.
#[must_use]
pub fn long(usual: usize, long: usize) -> usize {
    if env::var_os("MUSTER_LONG").is_some_and(|value| value == "1") { long } else { usual }
}

/// Tells the run that this machine cannot do `what`, and why. Whoever asks for everything gets a failure.
#[allow(clippy::print_stderr)] // where nobody collects such lines, the test's output is the place
pub fn not_run(what: &str, why: &str) {
    let line = format!("{what}: {why}\n");
    eprint!("not run: {line}");
    if let Some(list) = env::var_os("MUSTER_NOT_RUN") {
        let file = File::options().create(true).append(true).open(list);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the list of the run is writable");
    }
    let all = env::var_os("MUSTER_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!all, "MUSTER_REQUIRE_ALL=1, and this was not run: {line}");
}
