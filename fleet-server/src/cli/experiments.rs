//! `experiment`.

mod request;
mod view;

use reqwest::Method;

use super::{
    Client, Exit, Failure,
    args::{ExperimentCommand, Trial},
    output::{Output, moment, say},
};
use crate::api::{ExperimentSummaryView, ExperimentView, ReportView, StartExperiment, StopExperimentBody};

pub(super) async fn run(client: &Client, command: ExperimentCommand, output: &Output) -> Result<(), Failure> {
    match command {
        ExperimentCommand::Start(args) => {
            let trial = args.trial;
            start(client, &request::of_args(*args)?, trial, output).await
        }
        ExperimentCommand::Apply { file, trial } => {
            apply(client, &request::of_file(&file)?, trial, output).await
        }
        ExperimentCommand::List => list(client, output).await,
        ExperimentCommand::Show { name } => {
            let view: ExperimentView = client.get(&format!("/experiments/{name}"), &[]).await?;
            output.one(&view, &name, || view::lines(&view));
            Ok(())
        }
        ExperimentCommand::Report { name } => {
            let view: ReportView = client.get(&format!("/experiments/{name}/report"), &[]).await?;
            output.one(&view, &name, || view::report_lines(&view));
            Ok(())
        }
        ExperimentCommand::Stop { name, reason, restore, trial } => {
            let body = StopExperimentBody { reason, restore };
            let path = format!("/experiments/{name}/stop{}", trial.query());
            let view: ExperimentView = client.send_json(Method::POST, &path, &body).await?;
            output.one(&view, &name, || view::lines(&view));
            Ok(())
        }
    }
}

async fn start(
    client: &Client,
    request: &StartExperiment,
    trial: Trial,
    output: &Output,
) -> Result<(), Failure> {
    let path = format!("/experiments{}", trial.query());
    let view: ExperimentView = client.send_json(Method::POST, &path, request).await?;
    if !trial.dry_run {
        say(&format!("started; see what it shows with: muster experiment report {}", request.name));
    }
    output.one(&view, &request.name, || view::lines(&view));
    Ok(())
}

/// The same file may be applied again and again, as a pipeline does, and starts one experiment.
async fn apply(
    client: &Client,
    request: &StartExperiment,
    trial: Trial,
    output: &Output,
) -> Result<(), Failure> {
    let known: Result<ExperimentView, _> = client.get(&format!("/experiments/{}", request.name), &[]).await;
    match known {
        Ok(view) if request::is_same(request, &view) => {
            say(&format!("{} does this already, it is {}", request.name, view.phase));
            output.one(&view, &request.name, || view::lines(&view));
            Ok(())
        }
        Ok(_) => Err(Failure::new(
            Exit::Conflict,
            format!("there is or was another experiment of the name {}", request.name),
        )
        .hint("an experiment never changes; give the new one another name")),
        Err(failure) if failure.exit == Exit::NotFound => start(client, request, trial, output).await,
        Err(failure) => Err(failure),
    }
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let experiments: Vec<ExperimentSummaryView> = client.get("/experiments", &[]).await?;
    output.list(["name", "a", "b", "state", "started", "by"], &experiments, |view| {
        [
            view.name.clone(),
            view.a.clone(),
            view.b.clone(),
            view.phase.clone(),
            moment(Some(view.created_at)),
            view.created_by.clone(),
        ]
    });
    Ok(())
}
