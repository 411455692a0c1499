//! An empty database for one test, that can be opened more than once.

use std::env;

use sqlx::{AnyConnection, Connection as _, Executor as _};

use super::super::Store;
use crate::servers::ServerId;

/// Names a PostgreSQL where anyone who has it may make databases.
const POSTGRES: &str = "MUSTER_POSTGRES";

pub(crate) struct Scene {
    folder: tempfile::TempDir,
    url: Option<String>,
}

impl Scene {
    pub(crate) async fn sqlite() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), url: None }
    }

    /// A new database, which ends with the server that `tests/run` started.
    pub(crate) async fn postgres() -> Self {
        let admin = env::var(POSTGRES).unwrap_or_else(|_| {
            panic!("{POSTGRES} is not set; it is the URL of a PostgreSQL. tests/run starts one and sets the variable")
        });
        let name = format!("muster_{}", uuid::Uuid::new_v4().simple());
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&admin).await.unwrap();
        connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let url = admin.replacen("/postgres?", &format!("/{name}?"), 1);
        assert_ne!(url, admin, "the URL of {POSTGRES} ends with the database postgres and parameters");
        Self { folder: tempfile::tempdir().unwrap(), url: Some(url) }
    }

    /// Where it is; nothing when it is a file in the data directory.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    pub(crate) async fn open(&self) -> Store {
        self.open_as(&ServerId::new()).await
    }

    /// Opens it as one server among several.
    pub(crate) async fn open_as(&self, server: &ServerId) -> Store {
        Store::open(self.url.as_deref(), self.folder.path(), server.clone()).await.unwrap()
    }
}
