//! `webhook`.

use reqwest::Method;

use super::{
    Client, Exit, Failure,
    args::{WebhookAdd, WebhookCommand},
    output::{Output, moment, say},
};
use crate::api::{AddWebhook, AddedWebhook, TestedWebhook, WebhookState, WebhookView};

pub(super) async fn run(client: &Client, command: WebhookCommand, output: &Output) -> Result<(), Failure> {
    match command {
        WebhookCommand::Add(args) => add(client, args, output).await,
        WebhookCommand::List => {
            let webhooks: Vec<WebhookView> = client.get("/webhooks", &[]).await?;
            output.list(["id", "address", "events", "state", "last delivery", "why"], &webhooks, row);
            Ok(())
        }
        WebhookCommand::Remove { id } => {
            client.act(Method::DELETE, &format!("/webhooks/{id}")).await?;
            say("removed");
            Ok(())
        }
        WebhookCommand::Enable { id } => {
            let view: WebhookView =
                client.send_json(Method::POST, &format!("/webhooks/{id}/enable"), &()).await?;
            say("it goes on where it stopped");
            output.one(&view, &view.id, || lines(&view));
            Ok(())
        }
        WebhookCommand::Test { id } => test(client, &id, output).await,
    }
}

async fn add(client: &Client, args: WebhookAdd, output: &Output) -> Result<(), Failure> {
    let ca_pem = match &args.ca {
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?,
        ),
        None => None,
    };
    let body = AddWebhook { url: args.url, events: args.events, ca_pem, insecure_http: args.insecure_http };
    let added: AddedWebhook = client.send_json(Method::POST, "/webhooks", &body).await?;
    say("the secret is shown this once; give it to the receiver, which checks signatures with it");
    output.one(&added, &added.webhook.id, || {
        let mut lines = lines(&added.webhook);
        lines.push(format!("  secret   {}", added.secret));
        lines
    });
    Ok(())
}

async fn test(client: &Client, id: &str, output: &Output) -> Result<(), Failure> {
    let tested: TestedWebhook = client.send_json(Method::POST, &format!("/webhooks/{id}/test"), &()).await?;
    output.one(&tested, id, || vec![format!("{}, after {} ms", tested.detail, tested.millis)]);
    if tested.delivered {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, format!("webhook {id} did not take the test: {}", tested.detail)))
}

fn row(view: &WebhookView) -> [String; 6] {
    [
        view.id.clone(),
        view.url.clone(),
        events(view),
        state(view).to_owned(),
        moment(view.delivered_at),
        view.last_error.clone().unwrap_or_default(),
    ]
}

fn lines(view: &WebhookView) -> Vec<String> {
    vec![
        view.id.clone(),
        format!("  address  {}", view.url),
        format!("  events   {}", events(view)),
        format!("  state    {}", state(view)),
    ]
}

fn events(view: &WebhookView) -> String {
    if view.events.is_empty() { "all".to_owned() } else { view.events.join(",") }
}

fn state(view: &WebhookView) -> &'static str {
    match view.state {
        WebhookState::Active => "active",
        WebhookState::Failing => "failing",
        WebhookState::Disabled => "disabled",
    }
}
