//! Where something stands in the configuration, in its own words: `services.shop.routes[1].path`.

use std::fmt;

/// A path from the top of the configuration to one of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigPath {
    segments: Vec<Segment>,
}

/// One step of a [`ConfigPath`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// Into a mapping.
    Key(Box<str>),
    /// Into a list, from 0.
    Index(usize),
}

impl ConfigPath {
    /// The whole file.
    pub fn root() -> Self {
        Self::default()
    }

    /// Whether this is the whole file.
    pub fn is_root(&self) -> bool {
        self.segments.is_empty()
    }

    /// The value of `key` in the mapping that stands here.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.into()))
    }

    /// The element with this index in the list that stands here.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// What holds this value; `None` for the whole file.
    pub fn parent(&self) -> Option<Self> {
        let (_, parent) = self.segments.split_last()?;
        Some(Self { segments: parent.to_vec() })
    }

    /// The steps, from the top.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The last key on the way here: what a person would call this place.
    pub fn last_key(&self) -> Option<&str> {
        self.segments.iter().rev().find_map(|segment| match segment {
            Segment::Key(key) => Some(&**key),
            Segment::Index(_) => None,
        })
    }

    pub(super) fn with(&self, segment: Segment) -> Self {
        let mut segments = self.segments.clone();
        segments.push(segment);
        Self { segments }
    }
}

impl FromIterator<Segment> for ConfigPath {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self { segments: segments.into_iter().collect() }
    }
}

impl fmt::Display for ConfigPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
