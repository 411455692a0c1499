//! The fleet server: publishes models, rolls them out, and answers what runs where and why.
//!
//! One binary is server and command line. The server's parts, from the bottom up: [`config`] and [`data_dir`]
//! (what the operator gave), [`pki`] and [`auth`] (who is who), [`store`] (tables), [`broker`] (the way to devices).

pub mod auth;
pub mod broker;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod pki;
pub mod store;
