//! The fleet server: publishes models, rolls them out, and answers what runs where and why.
//!
//! One binary is server and command line. The server's parts, from the bottom up: [`config`] and [`data_dir`] (what
//! the operator gave), [`pki`], [`auth`] and [`signing`] (who is who, and what is believed), [`store`] and
//! [`artifacts`] (what is kept), [`broker`] and [`gateway`] (the way to devices), [`publish`] and [`rollouts`] (what
//! changes), [`drift`] (whether the world changed), [`webhooks`] (who is told), [`history`] (what was), [`servers`] (who else works
//! on the same database), [`api`] (how people and programs
//! ask), [`server`] (all of it, running). [`cli`] is a client of the API, and
//! [`demo`] a fleet in a box, and [`sim`] thousands of virtual devices before a real server.

pub mod api;
pub mod app;
pub mod artifacts;
pub mod auth;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod demo;
pub mod drift;
pub mod gateway;
pub mod history;
pub mod metrics;
pub mod pki;
pub mod publish;
pub mod rollouts;
pub mod server;
pub mod servers;
pub mod signing;
pub mod sim;
pub mod store;
pub mod webhooks;
