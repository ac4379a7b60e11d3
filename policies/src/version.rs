//! What runs where: versions as apps tell them in the shape of django-deploy-probes, and whether several servers run the same.
//!
//! Invariant: a server that tells nothing that could be compared agrees with nobody. Silence is no proof.

/// What a server tells about itself. `None`: it does not tell, or says `unknown`, which is the package's word for that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What runs.
    pub service: Option<Box<str>>,
    /// Where it runs.
    pub environment: Option<Box<str>>,
    /// Which version of it.
    pub version: Option<Box<str>>,
    /// Which commit it was built from.
    pub commit: Option<Box<str>>,
    /// Which branch it was built from.
    pub branch: Option<Box<str>>,
    /// When it was built.
    pub build_time: Option<Box<str>>,
    /// Which half of a blue-green pair it is.
    pub slot: Option<Box<str>>,
}

impl Told {
    /// Takes one entry of what an app says; others than the known ones are left out.
    pub fn put(&mut self, key: &str, value: &str) {
        let field = match key {
            "service" => &mut self.service,
            "environment" => &mut self.environment,
            "version" => &mut self.version,
            "commit" => &mut self.commit,
            "branch" => &mut self.branch,
            "build_time" => &mut self.build_time,
            "slot" => &mut self.slot,
            _ => return,
        };
        *field = (!value.is_empty() && value != "unknown").then(|| value.into());
    }

    /// What is told, in the package's order.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { service, environment, version, commit, branch, build_time, slot } = self;
        [
            ("service", service),
            ("environment", environment),
            ("version", version),
            ("commit", commit),
            ("branch", branch),
            ("build_time", build_time),
            ("slot", slot),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.as_deref()?)))
    }

    /// What two servers have to have in common to run the same; `None`: nothing is told that could be compared. The same commit may be built twice, and stand in
    /// both slots.
    fn identity(&self) -> Option<(Option<&str>, Option<&str>)> {
        let identity = (self.version.as_deref(), self.commit.as_deref());
        (identity != (None, None)).then_some(identity)
    }
}

/// Whether servers run the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// All of them do.
    One,
    /// They do not.
    Several,
    /// At least one does not tell, and those that do agree; or there is none.
    Unknown,
}

impl Agreement {
    /// In answers and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Several => "several",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether servers run the same: version and commit, as far as each tells them. `None`: it did not answer.
pub fn agreement<'a>(servers: impl IntoIterator<Item = Option<&'a Told>>) -> Agreement {
    let (mut first, mut silent) = (None, false);
    for told in servers {
        let Some(identity) = told.and_then(Told::identity) else {
            silent = true;
            continue;
        };
        if *first.get_or_insert(identity) != identity {
            return Agreement::Several;
        }
    }
    if silent || first.is_none() { Agreement::Unknown } else { Agreement::One }
}

/// What groups of servers, of which each may run another version, make together: one version is one in each of them.
pub fn together(groups: impl IntoIterator<Item = Agreement>) -> Agreement {
    let (mut some, mut unknown) = (false, false);
    for group in groups {
        match group {
            Agreement::Several => return Agreement::Several,
            Agreement::Unknown => unknown = true,
            Agreement::One => some = true,
        }
    }
    if some && !unknown { Agreement::One } else { Agreement::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(version: &str, commit: &str) -> Told {
        let mut told = Told::default();
        told.put("version", version);
        told.put("commit", commit);
        told
    }

    #[test]
    fn the_same_version_and_commit_is_one() {
        let (one, built_later) = (told("1.4", "abc"), Told { build_time: Some("later".into()), ..told("1.4", "abc") });
        let other_slot = Told { slot: Some("green".into()), ..told("1.4", "abc") };
        assert_eq!(agreement([Some(&one), Some(&built_later), Some(&other_slot)]), Agreement::One);
        assert_eq!(agreement([Some(&told("unknown", "abc")), Some(&told("", "abc"))]), Agreement::One);
    }

    #[test]
    fn another_version_or_commit_is_another_one_whoever_is_silent() {
        for other in [told("1.5", "abc"), told("1.4", "abd"), told("1.4", "")] {
            assert_eq!(agreement([Some(&told("1.4", "abc")), Some(&other)]), Agreement::Several, "{other:?}");
            assert_eq!(agreement([Some(&told("1.4", "abc")), None, Some(&other)]), Agreement::Several);
        }
    }

    #[test]
    fn groups_are_one_where_each_is() {
        use Agreement::{One, Several, Unknown};
        for (groups, expected) in [
            (vec![One, One], One),
            (vec![One, Unknown], Unknown),
            (vec![Unknown, Several, One], Several),
            (vec![], Unknown),
        ] {
            assert_eq!(together(groups.iter().copied()), expected, "{groups:?}");
        }
    }

    #[test]
    fn silence_is_no_proof() {
        let one = told("1.4", "abc");
        assert_eq!(agreement([Some(&one), None]), Agreement::Unknown);
        assert_eq!(agreement([Some(&one), Some(&told("unknown", "unknown"))]), Agreement::Unknown);
        assert_eq!(agreement([None, None]), Agreement::Unknown);
        assert_eq!(agreement([]), Agreement::Unknown);
        assert_eq!(agreement([Some(&one)]), Agreement::One);
    }

    #[test]
    fn what_the_package_does_not_know_is_left_out() {
        let mut told = told("1.4", "unknown");
        told.put("service", "shop");
        told.put("secret", "x");
        assert_eq!(told.entries().collect::<Vec<_>>(), [("service", "shop"), ("version", "1.4")]);
    }
}
