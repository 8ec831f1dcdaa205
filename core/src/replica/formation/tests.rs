use super::*;
use crate::membership::{Change, MemberKind};
use crate::replica::formation::stage::PAUSE;
use crate::types::{Incarnation, Member, NodeId};
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec;

const GROUP: ClusterId = ClusterId(7);

fn id(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

/// Member `number` in the incarnation of the same number.
fn member(number: u64) -> Member {
    Member::new(id(number), Incarnation(number))
}

fn blank(number: u64) -> Record {
    Record::blank(id(number), Incarnation(number))
}

fn first() -> Vec<(NodeId, String)> {
    (1..=3).map(|number| (id(number), alloc::format!("host-{number}:1"))).collect()
}

fn setup(plan: Plan) -> Setup {
    Setup { plan, wanted: None, drawn: GROUP, witness: false }
}

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// A formation, its address book, and what it has asked.
struct Lab {
    formation: Formation,
    book: AddressBook,
    out: Vec<Output>,
}

impl Lab {
    fn new(record: Record, plan: Plan) -> Self {
        let book = AddressBook::new(record.id);
        let formation = Formation::new(record, setup(plan)).expect("a plan that fits");
        Self { formation, book, out: Vec::new() }
    }

    fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        self.formation.handle(now, input, &mut self.book, &mut self.out);
        core::mem::take(&mut self.out)
    }

    fn wake(&mut self, now: Instant) -> Vec<(QuestionId, String)> {
        questions(&self.handle(now, Input::Wake))
    }

    fn answer(&mut self, now: Instant, question: QuestionId, answer: Result<Reply, String>) -> Vec<Output> {
        self.handle(now, Input::Answered { question, answer })
    }

    fn place(&mut self, now: Instant, kind: MemberKind, is_committed: bool) -> Vec<Output> {
        self.place_under(None, now, kind, is_committed)
    }

    /// The same, in a group whose leader the member knows.
    fn place_under(
        &mut self,
        leader: Option<NodeId>,
        now: Instant,
        kind: MemberKind,
        is_committed: bool,
    ) -> Vec<Output> {
        let is_configured = kind != MemberKind::NonMember || is_committed;
        self.handle(now, Input::Placed(Place { is_configured, is_committed, kind, leader }))
    }
}

fn questions(out: &[Output]) -> Vec<(QuestionId, String)> {
    let asked = |output: &Output| match output {
        Output::Ask { question, address, .. } => Some((*question, address.clone())),
        _ => None,
    };
    out.iter().filter_map(asked).collect()
}

fn changes(out: &[Output]) -> Vec<Change> {
    let asked = |output: &Output| match output {
        Output::Ask { ask: Question::Change(change, _), .. } => Some(*change),
        _ => None,
    };
    out.iter().filter_map(asked).collect()
}

fn who(number: u64, founders: &[Founder]) -> Result<Reply, String> {
    let cluster = (!founders.is_empty()).then_some(GROUP);
    Ok(Reply::Who(Who { member: member(number), cluster, founders: founders.to_vec(), addresses: vec![] }))
}

fn founders() -> Vec<Founder> {
    let of = |(id, address): (NodeId, String)| Founder { id, incarnation: Incarnation(id.get()), address };
    first().into_iter().map(of).collect()
}

#[test]
fn the_lowest_of_all_founds_once_all_are_there_wherever_they_are() {
    let mut one = Lab::new(blank(1), Plan::Found(first()));
    let asked = one.wake(ms(0));
    assert_eq!(asked.iter().map(|(_, address)| &**address).collect::<Vec<_>>(), ["host-2:1", "host-3:1"]);
    one.answer(ms(1), asked[0].0, Err("silent".into()));
    let out = one.answer(ms(2), asked[1].0, who(3, &[]));
    let missing = MissingFounder { id: id(2), address: "host-2:1".into(), found: None };
    assert_eq!(out, [Output::Report(Report::FoundersMissing(vec![missing]))]);
    assert_eq!(one.formation.deadline(), ms(2) + RETRY);
    // The two have exchanged their addresses.
    let asked = one.wake(ms(200));
    one.answer(ms(201), asked[0].0, who(3, &[]));
    let out = one.answer(ms(202), asked[1].0, who(2, &[]));
    let [Output::Store(record)] = &out[..] else { panic!("{out:?}") };
    let found: Vec<_> = record.founders.iter().map(|founder| (founder.id.get(), &*founder.address)).collect();
    assert_eq!(found, [(1, "host-1:1"), (2, "host-3:1"), (3, "host-2:1")]);
    assert_eq!((record.cluster, one.formation.who(&one.book)), (Some(GROUP), None), "it is not durable yet");
    let record = record.clone();
    assert_eq!(one.handle(ms(203), Input::Stored), [Output::Enter(record)]);
    assert!(one.formation.who(&one.book).is_some_and(|who| who.founders.len() == 3));
}

#[test]
fn the_others_find_themselves_in_what_it_wrote() {
    let mut two = Lab::new(blank(2), Plan::Found(first()));
    let asked = two.wake(ms(0));
    two.answer(ms(1), asked[1].0, Err("silent".into()));
    let out = two.answer(ms(2), asked[0].0, who(1, &founders()));
    assert!(matches!(&out[..], [Output::Store(record)] if record.founders == founders()), "{out:?}");
    // One that is not in it, or with another incarnation, is told.
    for (incarnation, error) in
        [(2, FormationError::NotFounder(GROUP)), (5, FormationError::OtherIncarnation(GROUP))]
    {
        let mut two = Lab::new(Record::blank(id(2), Incarnation(incarnation)), Plan::Found(first()));
        let asked = two.wake(ms(0));
        let mut others = founders();
        others.retain(|founder| incarnation != 2 || founder.id != id(2));
        two.answer(ms(1), asked[0].0, who(1, &others));
        assert_eq!(two.answer(ms(2), asked[1].0, Err("silent".into())), [Output::Fail(error)]);
    }
}

/// Member 1 founds and answers, its directory is emptied, and it hears from this member that it has no group.
#[test]
fn an_answer_of_an_earlier_incarnation_is_not_adopted() {
    let mut two = Lab::new(blank(2), Plan::Found(first()));
    let asked = two.wake(ms(0));
    let again = Introduction {
        member: Member::new(id(1), Incarnation(9)),
        address: None,
        list: two.formation.list(),
    };
    let said = two.formation.introduced(&again, &mut two.book).expect("it is not writing");
    let stranger = Introduction { list: Some(0), ..again };
    assert_eq!(two.formation.introduced(&stranger, &mut two.book), Err(NoIdentity::OtherList));
    assert_eq!(said.cluster, None);
    two.answer(ms(1), asked[0].0, who(1, &founders()));
    let out = two.answer(ms(2), asked[1].0, who(3, &[]));
    assert!(matches!(&out[..], [Output::Report(Report::FoundersMissing(_))]), "{out:?}");
    // From member 3 the same would be the word of a member that has it.
    let asked = two.wake(ms(300));
    two.answer(ms(301), asked[0].0, Err("silent".into()));
    let out = two.answer(ms(302), asked[1].0, who(3, &founders()));
    assert!(matches!(&out[..], [Output::Store(_)]), "{out:?}");
}

#[test]
fn a_newcomer_asks_until_it_votes_by_what_is_committed() {
    let mut four = Lab::new(blank(4), Plan::Join("seed:1".into()));
    let asked = four.wake(ms(0));
    let silent = four.answer(ms(1), asked[0].0, Err("silent".into()));
    assert!(matches!(&silent[..], [Output::Report(Report::SeedSilent { .. })]), "{silent:?}");
    let asked = four.wake(ms(200));
    let out = four.answer(ms(201), asked[0].0, who(1, &founders()));
    assert!(matches!(&out[..], [Output::Store(Record { joining: Some(Admission::Wanted), .. })]), "{out:?}");
    four.handle(ms(202), Input::Stored);
    let out = four.place(ms(203), MemberKind::NonMember, false);
    assert_eq!(changes(&out), [Change::AddVoter(member(4))]);
    // It hears of memberships without it first, and of one with it that is not committed.
    let question = questions(&out)[0].0;
    four.answer(ms(204), question, Ok(Reply::Unknown));
    assert_eq!(changes(&four.place(ms(400), MemberKind::NonMember, true)), [Change::AddVoter(member(4))]);
    assert!(four.place(ms(401), MemberKind::Learner, false).is_empty());
    let out = four.place(ms(402), MemberKind::Learner, true);
    assert!(matches!(&out[..], [Output::Store(Record { joining: Some(Admission::Learner), .. })]), "{out:?}");
    // It is restarted, and the present leader knows it for a learner only.
    let record = four.formation.record().clone();
    let mut four = Lab::new(record.clone(), Plan::Resume);
    four.book.note(id(1), Address::undated("host-1:1"), Source::Remembered);
    assert_eq!(four.handle(ms(0), Input::Wake), [Output::Enter(record)]);
    assert_eq!(changes(&four.place(ms(1), MemberKind::Learner, true)), [Change::Promote(id(4))]);
    assert!(four.place(ms(2), MemberKind::Voter, false).is_empty());
    let out = four.place(ms(3), MemberKind::Voter, true);
    assert!(
        matches!(&out[..], [Output::Report(Report::Joined), Output::Store(Record { joining: None, .. })]),
        "{out:?}"
    );
    four.handle(ms(4), Input::Stored);
    // An operator makes it a learner: that stays.
    assert!(four.place(ms(5), MemberKind::Learner, true).is_empty());
}

#[test]
fn a_learner_that_was_removed_does_not_ask_again() {
    let record = Record { cluster: Some(GROUP), joining: Some(Admission::Learner), ..blank(4) };
    let mut four = Lab::new(record, Plan::Join("seed:1".into()));
    four.wake(ms(0));
    let out = four.place(ms(1), MemberKind::NonMember, true);
    assert!(matches!(&out[..], [Output::Store(Record { joining: None, .. })]), "{out:?}");
}

#[test]
fn members_that_name_each_other_as_leader_are_not_asked_without_a_pause() {
    let record = Record { cluster: Some(GROUP), joining: Some(Admission::Wanted), ..blank(4) };
    let mut four = Lab::new(record, Plan::Join("a:1".into()));
    four.wake(ms(0));
    let mut out = four.place(ms(1), MemberKind::NonMember, false);
    let mut asked = 0;
    while let [(question, address)] = &questions(&out)[..] {
        asked += 1;
        let other = if address == "a:1" { "b:1" } else { "a:1" };
        let leader = Some((id(1), Some(other.to_string())));
        let refused =
            ChangeRefused { reason: "not the leader".into(), is_passing: true, is_member: false, leader };
        out = four.answer(ms(2), *question, Ok(Reply::Refused(refused)));
    }
    assert_eq!((asked, four.formation.deadline()), (4, ms(2) + RETRY));
}

#[test]
fn a_member_of_a_group_asks_for_addresses_where_it_should_join() {
    let record = Record { cluster: Some(GROUP), founders: founders(), ..blank(2) };
    let mut two = Lab::new(record, Plan::Join("new-1:1".into()));
    two.wake(ms(0));
    let out = two.place(ms(1), MemberKind::Voter, true);
    let asked = questions(&out);
    assert_eq!(asked[0].1, "new-1:1");
    let of_other =
        Who { member: member(1), cluster: Some(ClusterId(8)), founders: vec![], addresses: vec![] };
    let out = two.answer(ms(2), asked[0].0, Ok(Reply::Who(of_other)));
    assert!(matches!(&out[..], [Output::Report(Report::SeedOfOtherGroup { .. })]), "{out:?}");
    let asked = two.wake(ms(200));
    two.answer(ms(201), asked[0].0, who(1, &founders()));
    assert_eq!(two.book.candidates(id(1)), ["new-1:1", "host-1:1"], "the operator's word is tried first");
    two.place_under(Some(id(1)), ms(300), MemberKind::Voter, true);
    assert_eq!(two.formation.deadline(), Instant::NEVER);
}

#[test]
fn an_addition_that_a_later_leader_never_heard_of_is_asked_for_again() {
    let record = Record { cluster: Some(GROUP), joining: Some(Admission::Wanted), ..blank(4) };
    let mut four = Lab::new(record, Plan::Join("seed:1".into()));
    four.wake(ms(0));
    let mut out = four.place(ms(1), MemberKind::Learner, false);
    assert_eq!((questions(&out).len(), changes(&out).len()), (1, 0), "it introduces itself first");
    let (question, _) = questions(&out)[0].clone();
    four.answer(ms(2), question, who(1, &founders()));
    out = four.handle(four.formation.deadline(), Input::Wake);
    assert_eq!(changes(&out), [Change::AddVoter(member(4))]);
}

#[test]
fn a_member_without_a_leader_introduces_itself_to_one_known_address_after_the_other() {
    let record = Record { cluster: Some(GROUP), founders: founders(), ..blank(2) };
    let mut two = Lab::new(record, Plan::Resume);
    two.wake(ms(0));
    two.place_under(Some(id(1)), ms(1), MemberKind::Voter, true);
    assert_eq!(two.formation.deadline(), Instant::NEVER, "there is nothing to do under a leader");
    two.place(ms(2), MemberKind::Voter, true);
    assert_eq!(two.formation.deadline(), ms(2) + PAUSE);
    let mut asked = BTreeSet::new();
    for _ in 0..4 {
        let now = two.formation.deadline();
        let [(question, address)] = &two.wake(now)[..] else { panic!("it asks one address at a time") };
        asked.insert(address.clone());
        let told = Who { member: member(3), cluster: Some(GROUP), founders: vec![], addresses: vec![] };
        let addresses = vec![(id(1), "new-1:1".to_string())];
        two.answer(now, *question, Ok(Reply::Who(Who { addresses, ..told })));
        assert_eq!(two.formation.deadline(), now + PAUSE);
    }
    let all = ["host-1:1", "host-3:1", "new-1:1"].map(String::from);
    assert_eq!(asked, all.into(), "what it hears of is asked as well");
    two.place_under(Some(id(1)), two.formation.deadline(), MemberKind::Voter, true);
    assert_eq!(two.formation.deadline(), Instant::NEVER);
}

fn book() -> AddressBook {
    AddressBook::new(id(9))
}

#[test]
fn the_operators_word_is_tried_before_a_memory_and_a_memory_is_kept() {
    let mut book = book();
    book.expect(GROUP, &[member(1)]);
    assert!(book.note(id(1), Address { text: "old:1".into(), stamp: 7 }, Source::Remembered));
    assert!(book.note(id(1), Address::undated("new:1"), Source::Configured));
    assert_eq!(book.candidates(id(1)), ["new:1", "old:1"]);
    book.failed(id(1), "new:1", ms(0));
    assert_eq!(book.candidates(id(1)), ["old:1", "new:1"], "they take turns");
    assert_eq!(book.answered(id(1), "old:1", id(1), &[(GROUP, Incarnation(1))], ms(1)), Verdict::Verified);
    assert_eq!(book.best(id(1)), Some("old:1"), "where the member has proved to be counts more");
}

#[test]
fn others_are_told_where_a_member_says_that_it_is_unless_another_address_is_verified() {
    let mut book = book();
    book.expect(GROUP, &[member(1)]);
    book.note(id(1), Address::undated("old:1"), Source::Configured);
    book.heard(id(1), &Address { text: "new:1".into(), stamp: 3 }, &[]);
    assert_eq!(book.best(id(1)), Some("new:1"), "it has dialled this host from there");
    assert_eq!(book.answered(id(1), "old:1", id(1), &[(GROUP, Incarnation(1))], ms(1)), Verdict::Verified);
    assert_eq!(book.best(id(1)), Some("old:1"));
}

#[test]
fn no_member_is_expected_of_a_group_that_this_host_has_left() {
    let mut book = book();
    book.expect(GROUP, &[member(1)]);
    book.note(id(1), Address::undated("old:1"), Source::Configured);
    assert_eq!(book.answered(id(1), "old:1", id(1), &[], ms(1)), Verdict::Doubtful);
    book.forget_group(GROUP);
    assert_eq!(book.answered(id(1), "old:1", id(1), &[], ms(1)), Verdict::Verified);
}

#[test]
fn a_peer_that_looks_for_another_member_here_can_be_dialled_from_then_on() {
    let mut book = book();
    book.take_news();
    assert!(!book.visited(id(2), id(1), &Address { text: "new:1".into(), stamp: 3 }, &[]));
    assert_eq!(book.take_news().into_iter().collect::<Vec<_>>(), [id(1)]);
    assert_eq!(book.candidates(id(1)), ["new:1"]);
    assert!(book.visited(id(9), id(1), &Address { text: "new:1".into(), stamp: 3 }, &[]));
}

#[test]
fn only_the_right_incarnation_verifies_an_address() {
    let mut book = book();
    book.expect(GROUP, &[member(1)]);
    for text in ["a:1", "b:1"] {
        book.note(id(1), Address::undated(text), Source::Reported);
    }
    assert_eq!(book.answered(id(1), "a:1", id(1), &[(GROUP, Incarnation(5))], ms(0)), Verdict::Doubtful);
    assert_eq!(
        book.answered(id(1), "a:1", id(1), &[(ClusterId(8), Incarnation(1))], ms(0)),
        Verdict::Doubtful
    );
    assert_eq!(book.answered(id(1), "b:1", id(2), &[(GROUP, Incarnation(2))], ms(0)), Verdict::Other);
    assert_eq!(book.best(id(2)), Some("b:1"), "the peer there has said who it is");
    assert_eq!(book.answered(id(1), "a:1", id(1), &[(GROUP, Incarnation(1))], ms(0)), Verdict::Verified);
}

#[test]
fn what_never_answers_ages_out_and_the_last_address_of_a_member_stays() {
    let mut book = book();
    book.expect(GROUP, &[member(1)]);
    let late = ms(0) + FORGET_AFTER;
    for (text, source) in
        [("old:1", Source::Reported), ("new:1", Source::Announced), ("said:1", Source::Configured)]
    {
        book.note(id(1), Address::undated(text), source);
        book.failed(id(1), text, ms(0));
        book.failed(id(1), text, late);
    }
    assert_eq!(book.candidates(id(1)).len(), 3, "none of them is known to be better");
    assert_eq!(book.answered(id(1), "new:1", id(1), &[(GROUP, Incarnation(1))], late), Verdict::Verified);
    book.failed(id(1), "old:1", late);
    book.failed(id(1), "said:1", late);
    assert_eq!(book.candidates(id(1)), ["new:1", "said:1"]);
    // A former member.
    book.expect(GROUP, &[member(2)]);
    book.failed(id(1), "new:1", late);
    book.failed(id(1), "new:1", late + FORGET_AFTER);
    assert_eq!(book.candidates(id(1)), ["said:1"]);
}

#[test]
fn strangers_cannot_fill_it_without_end_nor_displace_what_counts() {
    let mut book = book();
    book.expect(GROUP, &[member(1), member(7_000)]);
    book.note(id(1), Address::undated("said:1"), Source::Configured);
    book.note(id(1), Address::undated("proved:1"), Source::Reported);
    book.answered(id(1), "proved:1", id(1), &[(GROUP, Incarnation(1))], ms(0));
    for number in 0..50 {
        book.note(id(1), Address { text: alloc::format!("x-{number}:1"), stamp: number }, Source::Announced);
    }
    let candidates = book.candidates(id(1));
    assert_eq!(candidates.len(), MAX_CANDIDATES);
    assert!(
        ["said:1", "proved:1"].iter().all(|text| candidates.iter().any(|it| it == text)),
        "{candidates:?}"
    );
    assert!(candidates.iter().any(|it| it == "x-49:1"), "the newest word is heard: {candidates:?}");
    for number in 2..=2 * MAX_IDS as u64 {
        book.note(id(number), Address::undated("x:1"), Source::Announced);
    }
    assert_eq!(book.ids().count(), MAX_IDS);
    assert!(book.note(id(7_000), Address::undated("x:1"), Source::Reported), "a member finds room");
    assert!(book.note(id(8_000), Address::undated("x:1"), Source::Configured), "and the operator's word");
    assert_eq!((book.ids().count(), book.best(id(1))), (MAX_IDS, Some("proved:1")));
    for text in ["", "0.0.0.0:1", "[::]:1"] {
        assert!(!book.note(id(1), Address::undated(text), Source::Configured), "{text:?} names no host");
    }
}

#[test]
fn a_new_candidate_is_tried_next_and_then_takes_its_turn() {
    let mut book = book();
    book.note(id(1), Address::undated("old:1"), Source::Configured);
    (0..1000).for_each(|_| book.failed(id(1), "old:1", ms(0)));
    book.note(id(1), Address::undated("new:1"), Source::Announced);
    book.failed(id(1), "old:1", ms(0));
    assert_eq!(book.candidates(id(1)), ["new:1", "old:1"]);
    book.failed(id(1), "new:1", ms(0));
    assert_eq!(book.candidates(id(1)), ["old:1", "new:1"]);
    assert_eq!(book.take_news(), [id(1)].into());
}

#[test]
fn a_member_that_answers_nowhere_is_looked_for_where_others_of_its_group_were() {
    let mut book = book();
    book.expect(GROUP, &[member(1), member(2)]);
    book.announce(Address::undated("own:1"));
    for (text, stamp) in [("left:1", 3), ("older:1", 2), ("own:1", 4), ("new:1", 1)] {
        book.note(id(1), Address { text: text.into(), stamp }, Source::Announced);
    }
    book.note(id(2), Address::undated("gone:1"), Source::Announced);
    book.note(id(3), Address::undated("stranger:1"), Source::Announced);
    assert_eq!(book.to_dial(id(2)), ["gone:1"], "the first may still be at any of its addresses");
    assert_eq!(book.answered(id(1), "new:1", id(1), &[(GROUP, Incarnation(1))], ms(0)), Verdict::Verified);
    assert_eq!(
        book.to_dial(id(2)),
        ["gone:1", "left:1"],
        "the first has left it, and is not back at its own"
    );
    book.failed(id(2), "gone:1", ms(0));
    book.failed(id(2), "left:1", ms(0));
    assert_eq!(book.to_dial(id(2)), ["gone:1", "older:1"], "they take turns");
    book.failed(id(2), "gone:1", ms(0));
    assert_eq!(book.to_dial(id(2)), ["gone:1", "left:1"]);
    assert_eq!(book.answered(id(2), "left:1", id(2), &[(GROUP, Incarnation(2))], ms(0)), Verdict::Verified);
    assert_eq!(book.best(id(2)), Some("left:1"), "it is there");
    assert_eq!(book.to_dial(id(3)), ["stranger:1"], "only members of one group are looked for so");
}
