//! `token` and `enroll token`.

use reqwest::Method;

use super::{
    Client, Failure,
    args::{EnrollTokenArgs, TokenCommand},
    output::{Output, moment, say},
};
use crate::api::{CreateEnrollToken, CreateToken, CreatedEnrollToken, CreatedToken, TokenView};

pub(super) async fn run(client: &Client, command: TokenCommand, output: &Output) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { name, role, expires } => {
            let body = CreateToken { name, role, expires_secs: expires.map(|time| time.as_secs()) };
            let made: CreatedToken = client.send_json(Method::POST, "/tokens", &body).await?;
            say("the token is shown this once; keep it where only its user reads it");
            output.one(&made, &made.token, || vec![made.token.clone()]);
        }
        TokenCommand::List => {
            let tokens: Vec<TokenView> = client.get("/tokens", &[]).await?;
            output.list(["id", "name", "role", "starts with", "last used", "works"], &tokens, |token| {
                let works = if token.valid { "yes" } else { "no" };
                [
                    token.id.clone(),
                    token.name.clone(),
                    token.role.to_string(),
                    token.prefix.clone(),
                    moment(token.last_used),
                    works.to_owned(),
                ]
            });
        }
        TokenCommand::Revoke { id } => {
            client.act(Method::DELETE, &format!("/tokens/{id}")).await?;
            say("revoked");
        }
    }
    Ok(())
}

pub(super) async fn create_enroll_token(
    client: &Client,
    args: EnrollTokenArgs,
    output: &Output,
) -> Result<(), Failure> {
    let (uses, expires) = (args.uses, args.expires);
    let body =
        CreateEnrollToken { labels: args.label.into_iter().collect(), uses, expires_secs: expires.as_secs() };
    let made: CreatedEnrollToken = client.send_json(Method::POST, "/enroll-tokens", &body).await?;
    say(&format!(
        "for {uses} device(s), until {}; on the device: muster-agent enroll TOKEN",
        moment(Some(made.expires_at))
    ));
    output.one(&made, &made.token, || vec![made.token.clone()]);
    Ok(())
}
