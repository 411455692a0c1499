//! Which server the command line talks to, and as whom.

use std::{
    env,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::failure::Failure;

/// A server, the certificate by which it is known, and a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Address of the API.
    pub server: String,
    /// Token.
    pub token: String,
    /// Certificate of the fleet's CA, as PEM. No other authority is believed.
    pub ca: String,
}

impl Context {
    /// Reads a context file.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The context as a file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("three texts are TOML")
    }

    /// Finds the context: the file given, else `MUSTER_SERVER`, `MUSTER_TOKEN` and `MUSTER_CA`, else the user's file.
    ///
    /// # Errors
    /// Says where it was looked for.
    pub fn find(given: Option<&Path>) -> Result<Self, Failure> {
        if let Some(path) = given {
            return Self::read(path);
        }
        if let Ok(server) = env::var("MUSTER_SERVER") {
            return Self::from_variables(server);
        }
        match user_file().filter(|path| path.exists()) {
            Some(path) => Self::read(&path),
            None => Err(Failure::usage("no server is known").hint(
                "give --context FILE (the server's first start wrote data_dir/admin-context.toml), \
                 or set MUSTER_CONTEXT, or MUSTER_SERVER, MUSTER_TOKEN and MUSTER_CA",
            )),
        }
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read the context {}: {error}", path.display()))
        })?;
        Self::parse(&text)
            .map_err(|error| Failure::usage(format!("{} is not a context: {error}", path.display())))
    }

    fn from_variables(server: String) -> Result<Self, Failure> {
        let needed = |name: &str| {
            env::var(name).map_err(|_| Failure::usage(format!("MUSTER_SERVER is set, but {name} is not")))
        };
        let (token, ca) = (needed("MUSTER_TOKEN")?, needed("MUSTER_CA")?);
        let ca = if ca.starts_with("-----BEGIN") {
            ca
        } else {
            std::fs::read_to_string(&ca)
                .map_err(|error| Failure::usage(format!("cannot read MUSTER_CA ({ca}): {error}")))?
        };
        Ok(Self { server, token, ca })
    }
}

/// `~/.config/muster/context.toml`
fn user_file() -> Option<PathBuf> {
    let config = env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".config")))?;
    Some(config.join("muster/context.toml"))
}
