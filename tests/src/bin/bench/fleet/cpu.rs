//! Processor time of a server and of its database.

use std::ops::{Mul, Sub};

/// What each spent, in the unit of whoever counts. A database in the server's own process spends nothing of its own.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// The server.
    pub server: f64,
    /// Processes of the database.
    pub database: f64,
}

impl Cpu {
    /// Both.
    pub fn all(self) -> f64 {
        self.server + self.database
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { server: self.server - earlier.server, database: self.database - earlier.database }
    }
}

impl Mul<f64> for Cpu {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self { server: self.server * factor, database: self.database * factor }
    }
}
