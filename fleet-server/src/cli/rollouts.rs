//! `rollout`.

use fleet_core::{Plan, Reach, Strategy, WaveShare, WaveSpec};
use reqwest::Method;

use super::{
    Client, Failure,
    args::{RolloutArgs, RolloutCommand},
    output::{Output, moment, say},
    watch,
};
use crate::api::{Order, OrderBody, PlanView, RolloutSummaryView, RolloutView, StartRollout};

pub(super) async fn run(client: &Client, command: RolloutCommand, output: &Output) -> Result<(), Failure> {
    match command {
        RolloutCommand::Plan(args) => {
            let view: PlanView = client.send_json(Method::POST, "/rollouts/plan", &body(args)?).await?;
            output.one(&view, "plan", || plan_lines(&view.plan));
            Ok(())
        }
        RolloutCommand::Start(args) => {
            let view: RolloutView = client.send_json(Method::POST, "/rollouts", &body(args)?).await?;
            say(&format!("started; follow it with: muster rollout status {} --watch", view.status.id));
            output.one(&view, view.status.id.as_str(), || watch::lines(&view));
            Ok(())
        }
        RolloutCommand::Status { id, watch: true, timeout } => {
            watch::watch(client, &id, timeout, output).await
        }
        RolloutCommand::Status { id, watch: false, .. } => {
            let view: RolloutView = client.get(&format!("/rollouts/{id}"), &[]).await?;
            output.one(&view, view.status.id.as_str(), || watch::lines(&view));
            Ok(())
        }
        RolloutCommand::List => list(client, output).await,
        RolloutCommand::Pause { id } => order(client, &id, Order::Pause, None, output).await,
        RolloutCommand::Resume { id } => order(client, &id, Order::Resume, None, output).await,
        RolloutCommand::Halt { id, reason } => order(client, &id, Order::Halt, reason, output).await,
        RolloutCommand::Rollback { id } => order(client, &id, Order::Rollback, None, output).await,
    }
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let rollouts: Vec<RolloutSummaryView> = client.get("/rollouts", &[]).await?;
    output.list(["id", "release", "state", "started", "by"], &rollouts, |view| {
        [
            view.id.clone(),
            view.release.clone(),
            view.phase.clone(),
            moment(Some(view.created_at)),
            view.created_by.clone(),
        ]
    });
    Ok(())
}

async fn order(
    client: &Client,
    id: &str,
    order: Order,
    reason: Option<String>,
    output: &Output,
) -> Result<(), Failure> {
    let body = OrderBody { order, reason };
    let view: RolloutView = client.send_json(Method::POST, &format!("/rollouts/{id}/orders"), &body).await?;
    output.one(&view, view.status.id.as_str(), || watch::lines(&view));
    Ok(())
}

fn body(args: RolloutArgs) -> Result<StartRollout, Failure> {
    let mut strategy = match &args.strategy {
        Some(path) => {
            let wrong =
                |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
            let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
            serde_json::from_str(&text).map_err(|error| wrong(&error))?
        }
        None => Strategy::default(),
    };
    if let Some(sizes) = &args.waves {
        strategy.waves = sizes.split(',').map(wave).collect::<Result<_, _>>()?;
    }
    if let Some(bake) = args.bake {
        strategy.waves.iter_mut().for_each(|wave| wave.bake_time_secs = bake.as_secs());
    }
    strategy.retry |= args.retry;
    Ok(StartRollout { release: args.release.to_string(), selector: args.to, strategy })
}

fn wave(text: &str) -> Result<WaveSpec, Failure> {
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
    Ok(WaveSpec { share, bake_time_secs: 0 })
}

fn plan_lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, wave) in plan.waves.iter().enumerate() {
        let bytes: u64 = wave.devices.iter().map(|device| device.bytes).sum();
        let offline = wave.devices.iter().filter(|device| device.reach == Reach::Offline).count();
        lines.push(format!(
            "wave {}: {} devices ({offline} offline), at most {bytes} bytes, watched {} s",
            number + 1,
            wave.devices.len(),
            wave.bake_time_secs
        ));
        lines.extend(wave.devices.iter().map(|device| {
            let from = device.from.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
            let reach = if device.reach == Reach::Offline { ", offline" } else { "" };
            format!("  {}  from {from}, {} bytes{reach}", device.device, device.bytes)
        }));
    }
    if !plan.blocked.is_empty() {
        lines.push(format!("left out: {} devices", plan.blocked.len()));
        lines.extend(plan.blocked.iter().map(|blocked| format!("  {}  {}", blocked.device, blocked.why)));
    }
    lines
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
}
