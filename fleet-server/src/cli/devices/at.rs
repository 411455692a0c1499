//! `device at`.

use crate::{
    api::{AnswerView, AtView, BroughtBy},
    cli::{
        Client, Failure,
        output::{Output, moment},
        when::When,
    },
    clock::Clock,
};

pub(super) async fn run(
    client: &Client,
    id: &str,
    time: &[String],
    model: Option<String>,
    output: &Output,
) -> Result<(), Failure> {
    let when: When = time.join(" ").parse().map_err(Failure::usage)?;
    let at = when.seen_from(Clock::start().now());
    let mut query = vec![("time", at.as_millis().to_string())];
    query.extend(model.map(|model| ("model", model)));
    let view: AtView = client.get(&format!("/devices/{id}/at"), &query).await?;
    output.one(&view, &view.device, || lines(&view));
    Ok(())
}

fn lines(view: &AtView) -> Vec<String> {
    let mut lines = vec![format!("{} at {}", view.device, moment(Some(view.at)))];
    if view.answers.is_empty() {
        lines.push("  no report tells that anything answered".to_owned());
    }
    lines.extend(view.answers.iter().flat_map(answer_lines));
    if !view.complete {
        lines.push("  older reports than the newest 5000 were not looked at; name a model".to_owned());
    }
    lines
}

fn answer_lines(answer: &AnswerView) -> Vec<String> {
    let Some(release) = &answer.release else {
        let since = answer.since.map(|at| format!(", since {}", moment(Some(at)))).unwrap_or_default();
        return vec![format!("  {}  no version answered{since}", answer.model)];
    };
    let standing = answer.standing.as_deref().unwrap_or_default();
    let until = answer.until.map(|at| format!(" until {}", moment(Some(at)))).unwrap_or_default();
    let mut lines =
        vec![format!("  {release}  answered ({standing}), since {}{until}", moment(answer.since))];
    lines.extend(
        answer
            .evidence
            .iter()
            .map(|report| format!("    {}  the device reported {}", moment(Some(report.at)), report.words)),
    );
    lines.push(format!("    {}", brought(answer.rollout.as_ref())));
    lines
}

fn brought(rollout: Option<&BroughtBy>) -> String {
    let Some(BroughtBy { id, started_by, started_at, approved_by }) = rollout else {
        return "no rollout is known that brought it".to_owned();
    };
    let approved = if approved_by.is_empty() { "nobody".to_owned() } else { approved_by.join(", ") };
    let at = moment(Some(*started_at));
    format!("brought by rollout {id}, started by {started_by} at {at}, approved by {approved}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> AnswerView {
        AnswerView {
            model: "digits".into(),
            release: Some("digits@2".into()),
            standing: Some("committed".into()),
            since: Some(1_800_000_000_000),
            until: None,
            evidence: vec![],
            rollout: None,
        }
    }

    #[test]
    fn who_brought_it_is_told_or_that_nobody_knows() {
        let lines = answer_lines(&answer());
        assert_eq!(lines[0], "  digits@2  answered (committed), since 2027-01-15 08:00:00Z");
        assert_eq!(lines[1], "    no rollout is known that brought it");
        let rollout = BroughtBy {
            id: "r1".into(),
            started_by: "ada".into(),
            started_at: 1_800_000_000_000,
            approved_by: vec!["bob".into()],
        };
        let told = "brought by rollout r1, started by ada at 2027-01-15 08:00:00Z, approved by bob";
        assert_eq!(brought(Some(&rollout)), told);
    }

    #[test]
    fn a_model_of_which_nothing_answered_is_told() {
        let nobody = AnswerView { release: None, since: None, ..answer() };
        assert_eq!(answer_lines(&nobody), ["  digits  no version answered"]);
    }
}
