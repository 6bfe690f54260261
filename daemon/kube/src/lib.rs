//! What the API server shows, kept over outages, and what this node tells it.

pub mod shared;
