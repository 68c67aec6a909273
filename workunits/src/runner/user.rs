//! Who runs a command: a name becomes the numbers that the kernel wants.

use std::ffi::CString;

use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist, setgid, setgroups, setuid},
};

/// A user, looked up.
#[derive(Debug)]
pub(super) struct Who {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    /// What programs expect to find in the environment of this user.
    pub(super) env: [(&'static str, String); 3],
}

impl Who {
    /// The user that `text` names: `USER` or `USER:GROUP`, names or numbers.
    ///
    /// # Errors
    /// A text that says what is missing.
    pub(super) fn look_up(text: &str) -> Result<Who, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let fault = |errno: Errno| format!("cannot look up {text:?}: {}", errno.desc());
        let entry = match User::from_name(user).map_err(fault)? {
            Some(entry) => Some(entry),
            None => match user.parse() {
                Ok(uid) => User::from_uid(Uid::from_raw(uid)).map_err(fault)?,
                Err(_) => return Err(format!("there is no user {user:?} on this node")),
            },
        };
        let gid = match group {
            None => entry.as_ref().map(|entry| entry.gid),
            Some(group) => match (Group::from_name(group).map_err(fault)?, group.parse()) {
                (Some(entry), _) => Some(entry.gid),
                (None, Ok(gid)) => Some(Gid::from_raw(gid)),
                (None, Err(_)) => return Err(format!("there is no group {group:?} on this node")),
            },
        };
        let gid = gid.ok_or_else(|| {
            format!("user {user} has no entry on this node: name a group too, as in {user}:{user}")
        })?;
        let Some(entry) = entry else {
            let uid = user
                .parse()
                .map(Uid::from_raw)
                .map_err(|_| format!("there is no user {user:?} on this node"))?;
            let env = [("HOME", "/".to_owned()), ("USER", user.to_owned()), ("LOGNAME", user.to_owned())];
            return Ok(Who { uid, gid, groups: vec![gid], env });
        };
        let name = CString::new(entry.name.as_str()).map_err(|_| format!("{user:?} is no name"))?;
        let home = entry.dir.to_string_lossy().into_owned();
        Ok(Who {
            uid: entry.uid,
            gid,
            groups: getgrouplist(&name, gid).map_err(fault)?,
            env: [("HOME", home), ("USER", entry.name.clone()), ("LOGNAME", entry.name)],
        })
    }

    /// Makes this process that user's, for good. Takes no memory: it is called between fork and exec.
    pub(super) fn become_it(&self) -> nix::Result<()> {
        if !geteuid().is_root() && (geteuid(), getegid()) == (self.uid, self.gid) {
            return Ok(()); // the user that we are; only root may say so of the groups
        }
        setgroups(&self.groups)?;
        setgid(self.gid)?;
        setuid(self.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number_and_what_is_missing_is_said() {
        let by_name = Who::look_up("root").unwrap();
        let by_number = Who::look_up("0:0").unwrap();
        assert_eq!((by_name.uid, by_name.gid), (by_number.uid, by_number.gid));
        assert_eq!(by_number.env[1], ("USER", "root".to_owned()));
        let stranger = Who::look_up("54321:54322").unwrap();
        assert_eq!((stranger.uid.as_raw(), stranger.groups), (54321, vec![Gid::from_raw(54322)]));
        for (text, said) in [
            ("no-such-user", "there is no user \"no-such-user\""),
            ("root:no-such-group", "there is no group \"no-such-group\""),
            ("54321", "name a group too"),
        ] {
            let why = Who::look_up(text).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }
}
