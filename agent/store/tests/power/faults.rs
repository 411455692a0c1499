//! A disk that is full, and one that fails: what runs goes on, and nothing is taken for durable that is not.
