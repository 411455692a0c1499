//! A database of a test's own on the PostgreSQL that `tests/run` starts, and what stands in it.

use std::env;

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tokio::runtime::{Builder, Runtime};

/// Names a PostgreSQL where anyone who has it may make databases: a URL that ends with `/postgres?` and parameters.
pub const POSTGRES: &str = "MUSTER_POSTGRES";

/// A database of a server, seen past the server.
#[derive(Debug)]
pub struct Database {
    url: String,
    runtime: Runtime,
}

impl Database {
    /// A new one on PostgreSQL. It ends with that, which ends with the run.
    #[must_use]
    pub fn postgres() -> Self {
        let admin = env::var(POSTGRES).unwrap_or_else(|_| {
            panic!("{POSTGRES} is not set; it is the URL of a PostgreSQL. tests/run starts one and sets the variable")
        });
        let name = format!("muster_{}", uuid::Uuid::new_v4().simple());
        let at = Self::at(&admin);
        at.runtime.block_on(async {
            let mut connection = AnyConnection::connect(&admin).await.expect("PostgreSQL answers");
            let made = connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await;
            made.expect("a database can be made");
        });
        let url = admin.replacen("/postgres?", &format!("/{name}?"), 1);
        assert_ne!(url, admin, "the URL in {POSTGRES} names the database postgres, and parameters");
        Self { url, ..at }
    }

    /// One that is there.
    #[must_use]
    pub fn at(url: &str) -> Self {
        sqlx::any::install_default_drivers();
        let runtime = Builder::new_current_thread().enable_all().build().expect("threads are plenty");
        Self { url: url.to_owned(), runtime }
    }

    /// As a server's configuration names it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first column of every row that `query` finds; numbers only.
    #[track_caller]
    pub fn numbers(&self, query: &'static str) -> Vec<i64> {
        self.rows(query).iter().map(|row| row.get(0)).collect()
    }

    /// The first column of every row that `query` finds; texts only.
    #[track_caller]
    pub fn texts(&self, query: &'static str) -> Vec<String> {
        self.rows(query).iter().map(|row| row.get(0)).collect()
    }

    #[track_caller]
    fn rows(&self, query: &'static str) -> Vec<sqlx::any::AnyRow> {
        let found = self.runtime.block_on(async {
            let mut connection = AnyConnection::connect(&self.url).await?;
            sqlx::query(query).fetch_all(&mut connection).await
        });
        found.unwrap_or_else(|error| panic!("{query}: {error}"))
    }
}
