//! Files: which one a path names, whether the client has it already, which part of it and in which coding it gets, and what is said about it.
//!
//! Nothing here opens anything. The gateway hands over the request's path and fields and what it knows about a file; the answer is a name below a root,
//! a decision, and the texts of fields.

pub mod caching;
pub mod coding;
pub mod conditions;
pub mod etag;
pub mod listing;
pub mod name;
pub mod pointer;
pub mod range;
pub mod types;

pub use self::caching::{CacheRule, Pattern};
pub use self::coding::{CODINGS, ending};
pub use self::conditions::{Decision, judge};
pub use self::etag::{Meta, Tag};
pub use self::name::Name;
pub use self::range::Window;
pub use self::types::Types;
