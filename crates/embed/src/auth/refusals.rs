//! etcd's errors about users, roles and rights.

use tonic::Code;

use crate::refusal::{Refusal, refusals};

refusals! {
    ROOT_USER_NOT_EXIST = FailedPrecondition "etcdserver: root user does not exist";
    ROOT_ROLE_NOT_EXIST = FailedPrecondition "etcdserver: root user does not have root role";
    USER_ALREADY_EXIST = FailedPrecondition "etcdserver: user name already exists";
    USER_EMPTY = InvalidArgument "etcdserver: user name is empty";
    USER_NOT_FOUND = FailedPrecondition "etcdserver: user name not found";
    ROLE_ALREADY_EXIST = FailedPrecondition "etcdserver: role name already exists";
    ROLE_NOT_FOUND = FailedPrecondition "etcdserver: role name not found";
    ROLE_EMPTY = InvalidArgument "etcdserver: role name is empty";
    AUTH_FAILED = InvalidArgument
        "etcdserver: authentication failed, invalid user ID or password";
    PERMISSION_NOT_GIVEN = InvalidArgument "etcdserver: permission not given";
    PERMISSION_DENIED = PermissionDenied "etcdserver: permission denied";
    ROLE_NOT_GRANTED = FailedPrecondition "etcdserver: role is not granted to the user";
    PERMISSION_NOT_GRANTED = FailedPrecondition
        "etcdserver: permission is not granted to the role";
    AUTH_NOT_ENABLED = FailedPrecondition "etcdserver: authentication is not enabled";
    INVALID_AUTH_TOKEN = Unauthenticated "etcdserver: invalid auth token";
    INVALID_AUTH_MGMT = InvalidArgument "etcdserver: invalid auth management";
    AUTH_OLD_REVISION = InvalidArgument "etcdserver: revision of auth store is old";

    // These two etcd forgot to translate.
    NO_PASSWORD_USER = Unknown
        "auth: authentication failed, password was given for no password user";
    PASSWORD_TOO_LONG = Unknown "bcrypt: password length exceeds 72 bytes";
}

/// The same refusal by Defragment, Hash, HashKV or Snapshot, which leave etcd's own error as it is.
pub(super) fn untranslated(refusal: Refusal) -> Refusal {
    let text = refusal.text.replacen("etcdserver: ", "auth: ", 1);
    Refusal { code: Code::Unknown, text: text.into() }
}
