//! The fleet server: everything behind its thin `main`.

pub mod broker;
