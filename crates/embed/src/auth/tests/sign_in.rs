use tenure::wire::{authpb::UserAddOptions, etcdserverpb::*};
use tokio::time::Duration;

use super::Fixture;
use crate::auth::refusals::*;

#[test]
fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let mut it = Fixture::on(&[]);
    assert_eq!(it.token("al", "no"), Err(AUTH_FAILED));
    assert_eq!(it.token("nobody", "no"), Err(AUTH_FAILED));
    assert!(it.token("al", "apw").is_ok());
}

#[test]
fn nobody_signs_in_while_auth_is_off() {
    assert_eq!(Fixture::off().token("al", "apw"), Err(AUTH_NOT_ENABLED));
}

#[test]
fn a_token_is_looked_at_only_while_auth_is_on() {
    let mut it = Fixture::off();
    it.caller("garbage").unwrap();
    let mut it = Fixture::on(&[]);
    assert_eq!(it.caller("garbage").unwrap_err(), INVALID_AUTH_TOKEN);
    assert_eq!(it.caller("").unwrap_err(), INVALID_AUTH_TOKEN);
    it.auth.caller(None, it.now).unwrap();
}

#[test]
fn two_logins_of_one_user_give_two_good_tokens() {
    let mut it = Fixture::on(&[]);
    let (one, two) = (it.token("al", "apw").unwrap(), it.token("al", "apw").unwrap());
    assert_ne!(one, two);
    assert_eq!(it.caller(&one).unwrap().name(), "al");
    assert_eq!(it.caller(&two).unwrap().name(), "al");
}

#[test]
fn a_token_lives_as_long_as_it_is_used() {
    let mut it = Fixture::on(&[]);
    let token = it.token("al", "apw").unwrap();
    for _ in 0..5 {
        it.now += Duration::from_millis(1200);
        it.caller(&token).unwrap();
    }
    it.now += Duration::from_secs(5);
    assert_eq!(it.caller(&token).unwrap_err(), INVALID_AUTH_TOKEN);
}

#[test]
fn a_token_dies_with_its_user_its_password_and_with_auth_itself() {
    let kills: [fn(&mut Fixture); 4] = [
        |it| {
            it.delete_user("al").unwrap();
        },
        |it| {
            it.change_password("al", "new").unwrap();
        },
        |it| {
            it.disable();
            it.auth.auth_enable(&it.nobody(), AuthEnableRequest {}).unwrap();
        },
        |it| it.auth.forget_tokens(),
    ];
    for kill in kills {
        let mut it = Fixture::on(&[]);
        let token = it.token("al", "apw").unwrap();
        kill(&mut it);
        assert_eq!(it.caller(&token).unwrap_err(), INVALID_AUTH_TOKEN);
    }
}

#[test]
fn a_token_survives_a_change_of_roles() {
    let mut it = Fixture::on(&[]);
    let token = it.token("al", "apw").unwrap();
    it.revoke_role("al", "r").unwrap();
    it.delete_role("r").unwrap();
    it.caller(&token).unwrap();
}

#[test]
fn forgetting_tokens_keeps_all_else() {
    let mut it = Fixture::on(&[]);
    let revision = it.auth.revision;
    it.auth.forget_tokens();
    assert_eq!((it.auth.enabled, it.auth.revision), (true, revision));
    assert!(it.token("al", "apw").is_ok());
}

#[test]
fn the_new_password_is_the_one_that_counts() {
    let mut it = Fixture::on(&[]);
    it.change_password("al", "new").unwrap();
    assert_eq!(it.token("al", "apw"), Err(AUTH_FAILED));
    assert!(it.token("al", "new").is_ok());
}

#[test]
fn a_user_without_password_cannot_sign_in_with_one() {
    let mut it = Fixture::on(&[]);
    let root = it.root();
    let options = Some(UserAddOptions { no_password: true });
    let request = AuthUserAddRequest { name: "np".to_owned(), options, ..Default::default() };
    it.auth.user_add(&root, request).unwrap();
    assert_eq!(it.token("np", ""), Err(NO_PASSWORD_USER));
    it.change_password("np", "pw").unwrap();
    assert_eq!(it.token("np", "pw"), Err(NO_PASSWORD_USER));
}

#[test]
fn a_password_too_long_is_refused_before_anything_else() {
    let mut it = Fixture::on(&[]);
    let nobody = it.nobody();
    let password = "x".repeat(73);
    let request = AuthUserAddRequest { password: password.clone(), ..Default::default() };
    assert_eq!(it.auth.user_add(&nobody, request), Err(PASSWORD_TOO_LONG));
    let request = AuthUserChangePasswordRequest { password, ..Default::default() };
    assert_eq!(it.auth.user_change_password(&nobody, request), Err(PASSWORD_TOO_LONG));
}

#[test]
fn no_secret_is_shown() {
    let mut it = Fixture::on(&[]);
    let token = it.token("al", "apw").unwrap();
    let caller = it.caller(&token).unwrap();
    let shown = format!("{:?} {caller:?}", it.auth);
    assert!(!shown.contains("apw") && !shown.contains(&token));
}
