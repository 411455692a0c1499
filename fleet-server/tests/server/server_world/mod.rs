//! A whole server in this process, on free ports, and a client that believes its CA.

#![allow(dead_code)] // each test file uses its part
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report of a test")]

pub mod device;
pub mod looks;

use std::{path::PathBuf, time::Duration};

use muster::{auth::Role, cli::Context, config::Config, server::Server};
use rcgen::KeyPair;
use reqwest::{
    Method, StatusCode,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use shared::enroll::EnrollToken;

/// Far beyond anything that should happen, so that only a hang runs into it.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running server and an admin's token.
pub struct World {
    pub folder: tempfile::TempDir,
    pub server: Option<Server>,
    pub admin: String,
    pub http: reqwest::Client,
    adapt: fn(&mut Config),
}

pub fn config(folder: &tempfile::TempDir) -> Config {
    let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    config.mqtt.listen = "127.0.0.1:0".parse().unwrap();
    config
}

async fn start(config: Config) -> Server {
    Box::pin(Server::start(config, PathBuf::from(env!("CARGO_BIN_EXE_muster")))).await.unwrap()
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With a configuration of its own.
    pub async fn start_with(adapt: fn(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder);
        adapt(&mut config);
        let server = start(config).await;
        let admin = server.first_token().unwrap().to_owned();
        let http = client(&std::fs::read_to_string(server.admin_context()).unwrap());
        Self { folder, server: Some(server), admin, http, adapt }
    }

    /// Stops the server and starts it again where it was, so that devices find it.
    pub async fn restart(&mut self) {
        let (http, mqtt) = self.server().addresses();
        self.server.take().unwrap().stop().await;
        let mut config = config(&self.folder);
        (self.adapt)(&mut config);
        (config.http.listen, config.mqtt.listen) = (http, mqtt);
        self.server = Some(start(config).await);
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn context(&self) -> PathBuf {
        self.server().admin_context()
    }

    pub async fn request(
        &self,
        method: &Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.server().endpoints().url);
        let mut request = self.http.request(method.clone(), url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.request(&Method::GET, path, Some(&self.admin), None).await;
        assert_eq!(status, StatusCode::OK, "GET {path}: {body}");
        body
    }

    /// An answer that is not JSON.
    pub async fn text(&self, path: &str) -> String {
        let url = format!("{}{path}", self.server().endpoints().url);
        let response = self.http.get(url).bearer_auth(&self.admin).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "GET {path}");
        response.text().await.unwrap()
    }

    /// What the command line answers.
    pub async fn muster(&self, line: &str) -> String {
        self.said(&line.split(' ').collect::<Vec<_>>()).await
    }

    /// What the command line answers; words may have spaces in them.
    pub async fn said(&self, words: &[&str]) -> String {
        let (code, out, err) = self.run(words).await;
        assert_eq!(code, 0, "muster {words:?}: {err}");
        out
    }

    /// What the command line answers in JSON.
    pub async fn json(&self, words: &[&str]) -> Value {
        let text = self.said(&[words, &["-o", "json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
    }

    /// The exit code of the command line, and what it says on both streams.
    pub async fn run(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster"));
        command.env("MUSTER_CONTEXT", self.context()).args(words).kill_on_drop(true);
        let output = command.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.request(&Method::POST, path, Some(&self.admin), Some(body)).await
    }

    /// What somebody with a token of their own is answered.
    pub async fn post_as(&self, token: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.request(&Method::POST, path, Some(token), Some(body)).await
    }

    /// Waits by the server's own long poll until the rollout is as it should be.
    pub async fn until_rollout(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + DEADLINE;
        let mut view = self.get(&format!("/api/v1/rollouts/{id}")).await;
        while !wanted(&view) {
            assert!(std::time::Instant::now() < deadline && view["finished"] == false, "{view}");
            let after = view["revision"].as_u64().unwrap();
            view = self.get(&format!("/api/v1/rollouts/{id}?after={after}&wait_ms=2000")).await;
        }
        view
    }

    pub async fn token(&self, role: Role) -> String {
        let (status, made) = self.post("/api/v1/tokens", json!({"name": role, "role": role})).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        made["token"].as_str().unwrap().to_owned()
    }

    /// Publishes a model of the demo.
    pub async fn publish(&self, model: &str, version: u32) -> Value {
        let (onnx, golden) = (format!("digits-v{version}.onnx"), format!("digits-v{version}-golden.npz"));
        let (status, body) = self.publish_files(model, &onnx, &golden, None).await;
        assert!(status.is_success(), "{status}: {body}");
        body
    }

    pub async fn publish_files(
        &self,
        model: &str,
        onnx: &str,
        golden: &str,
        policy: Option<&str>,
    ) -> (StatusCode, Value) {
        let mut form = Form::new()
            .part("model", Part::bytes(demo(onnx)))
            .part("golden", Part::bytes(demo(golden)))
            .part("lineage", Part::bytes(demo("digits-v1-lineage.toml")));
        if let Some(policy) = policy {
            form = form.part("policy", Part::text(policy.to_owned()));
        }
        let url = format!("{}/api/v1/models/{model}/versions", self.server().endpoints().url);
        answer(self.http.post(url).bearer_auth(&self.admin).multipart(form)).await
    }

    pub async fn enroll_token(&self, uses: u32) -> EnrollToken {
        let body = json!({"labels": {"site": "berlin"}, "uses": uses, "expires_secs": 600});
        let (status, made) = self.post("/api/v1/enroll-tokens", body).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        made["token"].as_str().unwrap().parse().unwrap()
    }

    pub async fn enroll(&self, token: &EnrollToken, device: Option<&str>) -> (StatusCode, Value) {
        self.enroll_key(token, device, &new_key()).await
    }

    /// Enrols and returns the answer with the private key.
    pub async fn enroll_with_key(&self, token: &EnrollToken, device: &str) -> (Value, Vec<u8>) {
        let key = new_key();
        let (status, joined) = self.enroll_key(token, Some(device), &key).await;
        assert_eq!(status, StatusCode::CREATED, "{joined}");
        (joined, key.serialize_der())
    }

    async fn enroll_key(
        &self,
        token: &EnrollToken,
        device: Option<&str>,
        key: &KeyPair,
    ) -> (StatusCode, Value) {
        let csr = rcgen::CertificateParams::default().serialize_request(key).unwrap().pem().unwrap();
        let body = json!({
            "secret": token.secret,
            "device": device,
            "csr_pem": csr,
            "report_key": shared::trust::Signer::from_seed(&[7; 32]).public(),
            "inventory": shared::device::Inventory::default(),
        });
        self.request(&Method::POST, shared::enroll::ENROLL_PATH, None, Some(body)).await
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

pub fn demo(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("demo").join(name)).unwrap()
}

fn client(context: &str) -> reqwest::Client {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let context = Context::parse(context).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(context.ca.as_bytes()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
    builder.timeout(Duration::from_secs(60)).build().unwrap()
}

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let bytes = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}
