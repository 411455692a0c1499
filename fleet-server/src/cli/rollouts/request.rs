//! From the command line and files to what is asked of the server.

use std::path::Path;

use fleet_core::{MetricGate, Ramp, Strategy, WaveShare, WaveSpec};
use serde::{Deserialize, de::DeserializeOwned};

use super::super::{Failure, args::RolloutArgs};
use crate::api::StartRollout;

/// A rollout as a file describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RolloutFile {
    /// `NAME@VERSION`
    release: String,
    /// Which devices.
    selector: String,
    /// How to proceed.
    #[serde(default)]
    strategy: Strategy,
}

/// What a file asks for.
pub(super) fn of_file(path: &Path) -> Result<StartRollout, Failure> {
    let RolloutFile { release, selector, strategy } = read(path)?;
    Ok(StartRollout { release, selector, strategy })
}

/// What the command line asks for.
pub(super) fn of_args(args: RolloutArgs) -> Result<StartRollout, Failure> {
    let mut strategy = args.strategy.as_deref().map_or_else(|| Ok(Strategy::default()), read)?;
    if let Some(sizes) = &args.waves {
        strategy.waves = sizes.split(',').map(wave).collect::<Result<_, _>>()?;
    }
    if let Some(bake) = args.bake {
        strategy.waves.iter_mut().for_each(|wave| wave.bake_time_secs = bake.as_secs());
    }
    if args.approve
        && let Some(first) = strategy.waves.first_mut()
    {
        first.approve = true;
    }
    if args.metrics && strategy.metrics.is_none() {
        strategy.metrics = Some(MetricGate::default());
    }
    strategy.control_percent = args.control.unwrap_or(strategy.control_percent);
    strategy.ramp = args.per_minute.map(Ramp::steady).or(strategy.ramp);
    strategy.continuous |= args.continuous;
    strategy.retry |= args.retry;
    Ok(StartRollout { release: args.release.to_string(), selector: args.to, strategy })
}

/// A document, as TOML where the name of the file says so, and as JSON otherwise.
pub(in crate::cli) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    if path.extension().is_some_and(|extension| extension == "toml") {
        toml::from_str(&text).map_err(|error| wrong(&error))
    } else {
        serde_json::from_str(&text).map_err(|error| wrong(&error))
    }
}

pub(in crate::cli) fn wave(text: &str) -> Result<WaveSpec, Failure> {
    let wrong = || {
        Failure::usage(format!("'{text}' is not the size of a wave"))
            .hint("write numbers, percentages and `all`, for example --waves 1,10%,all")
    };
    let number = |digits: &str| digits.parse::<u32>().map_err(|_| wrong());
    let share = match text.trim() {
        "all" => WaveShare::All,
        text => match text.strip_suffix('%') {
            Some(percent) => WaveShare::Percent(number(percent)?),
            None => WaveShare::Count(number(text)?),
        },
    };
    Ok(WaveSpec::of(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_numbers_percentages_and_all() {
        assert_eq!(wave("1").unwrap().share, WaveShare::Count(1));
        assert_eq!(wave(" 10%").unwrap().share, WaveShare::Percent(10));
        assert_eq!(wave("all").unwrap().share, WaveShare::All);
        assert_eq!(wave("most").unwrap_err().exit, crate::cli::Exit::Usage);
    }

    #[test]
    fn a_file_is_read_as_its_name_says_and_a_mistake_in_it_is_placed() {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            of_file(&path)
        };
        let toml = "release = \"digits@2\"\nselector = \"all\"\n[strategy]\ncontrol_percent = 10\n\
                    [[strategy.waves]]\nshare = { percent = 5 }\napprove = true\n";
        let read = written("rollout.toml", toml).unwrap();
        assert_eq!((read.strategy.control_percent, read.strategy.waves[0].approve), (10, true));
        assert_eq!(written("r.json", r#"{"release":"a@1","selector":"all"}"#).unwrap().selector, "all");
        let mistake = written("wrong.toml", "release = \"digits@2\"\nselector = \"all\"\nstrategi = 1\n");
        let text = mistake.unwrap_err().to_string();
        assert!(
            text.contains("wrong.toml") && text.contains("line 3") && text.contains("strategi"),
            "{text}"
        );
    }
}
