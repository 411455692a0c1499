//! What to try while the fleet stays up.

use super::{assets::image, narrate::Narrator, scene::Scene, story::Told};

/// Tells where everything is and what to do with it.
pub(super) fn explain(narrator: &Narrator, told: &Told, scene: &Scene) {
    let context = scene.context_file();
    let muster =
        std::env::current_exe().map_or_else(|_| "muster".to_owned(), |path| path.display().to_string());
    let (api, ca) = (&told.server.url, scene.server_dir().join("ca.pem"));
    narrator.chapter("The fleet stays up. Things to try in another terminal");
    narrator.text(&format!("  export MUSTER_CONTEXT={}", context.display()));
    for command in [
        "device list",
        "device why cam-1",
        "model show digits",
        "rollout list",
        "rollout start digits@1 --to site=paris",
    ] {
        narrator.text(&format!("  {muster} {command}"));
    }
    narrator.text(&format!("\n  API      {api}/api/v1/openapi.json   (curl --cacert {})", ca.display()));
    for device in &told.devices {
        narrator.text(&format!("  {:<8} http://{}/v2/models/digits", device.name, device.endpoints.http));
    }
    if let Some(device) = told.devices.first() {
        let socket = device.endpoints.unix_socket.display();
        narrator.text(&format!("\n  One image to {}, which shows a {}:", device.name, image(0).label));
        narrator.text(&format!(
            "  curl --unix-socket {socket} http://device/v2/models/digits/infer -d '{}'",
            request()
        ));
        narrator.text("\n  And its label, which counts for the version that answered:");
        let label = format!(r#"{{"model":"digits","id":"mine","label":{}}}"#, image(0).label);
        narrator
            .text(&format!("  curl --unix-socket {socket} http://device/muster/v1/feedback -d '{label}'"));
    }
    narrator.text("\n  Ctrl-C stops everything.\n");
}

fn request() -> String {
    let pixels: Vec<String> = image(0).pixels.iter().map(u8::to_string).collect();
    let data = pixels.join(",");
    format!(
        r#"{{"id":"mine","inputs":[{{"name":"image","shape":[1,1,8,8],"datatype":"FP32","data":[{data}]}}]}}"#
    )
}
