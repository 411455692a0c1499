//! From the command line and files to what is asked of the server.

use std::path::Path;

use fleet_core::{
    Ramp, Selector, Strategy,
    experiment::{Arms, AtEnd, Rules},
};

use super::super::{
    Failure,
    args::{AtEndWord, ExperimentArgs},
    rollouts::{read, wave},
};
use crate::api::{ExperimentView, StartExperiment};

/// What a file asks for.
pub(super) fn of_file(path: &Path) -> Result<StartExperiment, Failure> {
    read(path)
}

/// What the command line asks for.
pub(super) fn of_args(args: ExperimentArgs) -> Result<StartExperiment, Failure> {
    let mut strategy = args.strategy.as_deref().map_or_else(|| Ok(Strategy::default()), read)?;
    if let Some(sizes) = &args.waves {
        strategy.waves = sizes.split(',').map(wave).collect::<Result<_, _>>()?;
    }
    if args.approve
        && let Some(first) = strategy.waves.first_mut()
    {
        first.approve = true;
    }
    strategy.ramp = args.per_minute.map(Ramp::steady).or(strategy.ramp);
    let mut rules: Rules = args.rules.as_deref().map_or_else(|| Ok(Rules::default()), read)?;
    rules.alpha = args.alpha.unwrap_or(rules.alpha);
    Ok(StartExperiment {
        name: args.name,
        a: args.a.to_string(),
        b: args.b.to_string(),
        selector: args.to,
        shares: shares(&args.shares)?,
        seed: args.seed,
        rules,
        max_duration_secs: args.max_duration.as_secs(),
        at_end: match args.at_end {
            AtEndWord::Leave => AtEnd::Leave,
            AtEndWord::Restore => AtEnd::Restore,
            AtEndWord::Adopt => AtEnd::Adopt,
        },
        strategy,
    })
}

/// Whether an experiment is the one that is asked for. A group is not looked up: its selector was taken when it started.
pub(super) fn is_same(request: &StartExperiment, view: &ExperimentView) -> bool {
    let status = &view.status;
    let selector = match Selector::parse(&request.selector) {
        Ok(selector) => selector.to_string() == status.selector,
        Err(_) => request.selector.trim().starts_with("group:"),
    };
    let releases = (status.arms.a.release.to_string(), status.arms.b.release.to_string());
    let lasts_ms = status.deadline.as_millis().saturating_sub(status.started_at.as_millis());
    selector
        && releases == (request.a.clone(), request.b.clone())
        && status.shares == request.shares
        && request.seed.is_none_or(|seed| seed == status.seed)
        && status.rules == request.rules
        && status.strategy == request.strategy
        && status.at_end == request.at_end
        && lasts_ms == request.max_duration_secs.saturating_mul(1_000)
}

fn shares(text: &str) -> Result<Arms<u32>, Failure> {
    let wrong = || {
        Failure::usage(format!("'{text}' are not two shares"))
            .hint("write the percentage of arm A and that of arm B, for example --shares 50,50")
    };
    let (a, b) = text.split_once(',').ok_or_else(wrong)?;
    let number = |text: &str| text.trim().trim_end_matches('%').parse::<u32>().map_err(|_| wrong());
    Ok(Arms { a: number(a)?, b: number(b)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Exit;

    #[test]
    fn shares_are_two_percentages() {
        assert_eq!(shares("50,50").unwrap(), Arms { a: 50, b: 50 });
        assert_eq!(shares("90%, 10%").unwrap(), Arms { a: 90, b: 10 });
        for wrong in ["", "50", "50,", "a,b", "50,-1"] {
            assert_eq!(shares(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn a_file_needs_little_and_a_mistake_in_it_is_placed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("experiment.toml");
        let text = "name = \"speed\"\na = \"digits@1\"\nb = \"digits@2\"\nselector = \"all\"\nat_end = \"adopt\"\n\
                    [rules]\nalpha = 0.01\n[[strategy.waves]]\nshare = \"all\"\n";
        std::fs::write(&path, text).unwrap();
        let request = of_file(&path).unwrap();
        assert_eq!((request.at_end, request.rules.alpha), (AtEnd::Adopt, 0.01));
        assert_eq!((request.shares, request.max_duration_secs), (Arms { a: 50, b: 50 }, 7 * 86_400));
        std::fs::write(&path, format!("nam = 1\n{text}")).unwrap();
        let mistake = of_file(&path).unwrap_err().to_string();
        assert!(mistake.contains("experiment.toml") && mistake.contains("line 1"), "{mistake}");
    }
}
