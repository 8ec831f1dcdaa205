---------------------------- MODULE KontikiModel ----------------------------
(***************************************************************************)
(* Kontiki in small bounds, for TLC: what members and the network may do,  *)
(* and what must hold. The invariants are named as the simulator's checks. *)
(***************************************************************************)
EXTENDS Kontiki, TLC

CONSTANTS Ids,         \* all members
          Group,       \* those that the group begins with
          Changes,     \* memberships that a leader may be asked for

          MaxTerm, MaxEntries, MaxProposals, MaxCrashes, MaxSnapshots

(* What is asked for where the group changes: another voter for one that   *)
(* goes, which takes a joint phase; a learner; and one voter more.         *)
NoChange == {}
SomeChanges ==
    LET a == CHOOSE id \in Group : TRUE
        b == CHOOSE id \in Group \ {a} : TRUE
        c == CHOOSE id \in Ids \ Group : TRUE
        learner == [Plain(Group) EXCEPT !.learners = {c}, !.who = @ \cup {<<c, 0>>}]
    IN {learner, Plain(Group \cup {c}),
        [Plain({a, c}) EXCEPT !.old = Group, !.who = @ \cup {<<b, 0>>}]}

VARIABLES members,     \* the state of each
          sent,        \* every message that was ever sent: each may arrive late, often or never
          elected,     \* <<term, member>> of every leader
          crashes, proposals

vars == <<members, sent, elected, crashes, proposals>>

Init ==
    /\ members = [id \in Ids |-> Started(<<id, 0>>,
                    IF id \in Group THEN FirstDisk(Plain(Group)) ELSE EmptyDisk, 0)]
    /\ sent = {} /\ elected = {} /\ crashes = 0 /\ proposals = 0

(* A step: some acts, the write of what has changed, and what leaves.      *)
Step(id, s, says) ==
    LET t == Settle(s, Unwritten(s)) IN
    /\ LastIndex(t) <= MaxEntries
    /\ members' = [members EXCEPT ![id] = [t EXCEPT !.out = {}]]
    /\ sent' = sent \cup t.out \cup says
    /\ elected' = IF t.role = "leader" THEN elected \cup {<<t.term, t.me>>} ELSE elected

Does(id, a) == \E s \in Act(members[id], a) : s # members[id] /\ Step(id, s, {})

(* A message arrives: its term is entered, it is handled, and a follower   *)
(* commits, or a leader, as much as it may.                                *)
Kind == [ask |-> "vote", vote |-> "granted", append |-> "append", beat |-> "hear", ack |-> "match",
         offer |-> "offer"]

Committed(s, m) ==
    IF m.k \in {"append", "beat"}
    THEN Act(s, [k |-> "commit", m |-> m, i |-> Lower(m.commit, s.agreed)])
    ELSE Act(s, [k |-> "reach", i |-> LastIndex(s)])

Receives(id, m) ==
    LET s == members[id]
        entered == IF m.t > s.term THEN Act(s, [k |-> "enter", m |-> m]) ELSE {s}
        handled == UNION {LET r == Act(e, [k |-> Kind[m.k], m |-> m]) IN IF r = {} THEN {e} ELSE r : e \in entered}
        committed == UNION {LET r == Committed(h, m) IN IF r = {} THEN {h} ELSE r : h \in handled}
    IN m.from # s.me /\ \E c \in committed : c # s /\ Step(id, c, {})

Says(id, m) ==
    /\ MaySay(members[id], m) /\ m \notin sent
    /\ sent' = sent \cup {m} /\ UNCHANGED <<members, elected, crashes, proposals>>

(* What a leader sends: one entry, or none, after any it has; its commit   *)
(* index; its snapshot.                                                    *)
Leads(id) ==
    LET s == members[id] IN
    /\ s.role = "leader"
    /\ \/ \E i \in s.base.i .. LastIndex(s), n \in {0, 1} :
            /\ i + n <= LastIndex(s)
            /\ Says(id, [k |-> "append", from |-> s.me, t |-> s.term, prev |-> [i |-> i, t |-> TermAt(s, i)],
                         ents |-> Slice(s, i, i + n), commit |-> s.commit])
       \/ Says(id, [k |-> "offer", from |-> s.me, t |-> s.term, snap |-> s.snap])

(* Commits by what the disk has.                                           *)
Persists(id) ==
    /\ members[id].pend # <<>>
    /\ \E s \in Act(members[id], [k |-> "persisted", n |-> 1]) :
         \E r \in (IF s.role = "leader" THEN Act(s, [k |-> "reach", i |-> LastIndex(s)]) ELSE {s}) :
            Step(id, r, {}) /\ UNCHANGED <<crashes, proposals>>

Crashes(id) ==
    /\ crashes < MaxCrashes
    /\ \E n \in 0 .. Len(members[id].pend) :
         \E s \in Act(members[id], [k |-> "restart", n |-> n, i |-> members[id].disk.snap.i]) : Step(id, s, {})
    /\ crashes' = crashes + 1 /\ UNCHANGED proposals

Next ==
    \E id \in Ids :
        \/ /\ members[id].term < MaxTerm /\ Does(id, [k |-> "campaign"]) /\ UNCHANGED <<crashes, proposals>>
        \/ Does(id, [k |-> "lead"]) /\ UNCHANGED <<crashes, proposals>>
        \/ /\ proposals < MaxProposals
           /\ Does(id, [k |-> "propose", e |-> Entry(members[id].term, proposals + 1)])
           /\ proposals' = proposals + 1 /\ UNCHANGED crashes
        \/ \E c \in Changes \cup {Left(Conf(members[id]))} :
             Does(id, [k |-> "change", c |-> c]) /\ UNCHANGED <<crashes, proposals>>
        \/ Persists(id)
        \/ Crashes(id)
        \/ Leads(id)
        \/ \E m \in sent : Receives(id, m) /\ UNCHANGED <<crashes, proposals>>
        \/ \E snap \in members[id].fetch :
             Does(id, [k |-> "fetched", snap |-> snap]) /\ UNCHANGED <<crashes, proposals>>
        \/ /\ members[id].snap.i < MaxSnapshots
           /\ LET s == members[id] IN
              \E i \in s.snap.i + 1 .. Lower(s.commit, s.dur) :
                Does(id, [k |-> "compact", snap |-> SnapshotAt(s, i), base |-> [i |-> i, t |-> TermAt(s, i)]])
           /\ UNCHANGED <<crashes, proposals>>

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* What must hold: see the table in docs/internals/simulator.md.           *)

ElectionSafety == \A a, b \in elected : a[1] = b[1] => a = b

(* Logs with an equal entry are equal up to it, in memory and on disks.    *)
EntryAt(s, i) == s.log[i - s.base.i]
LogMatching ==
    \A a, b \in Ids :
        LET s == members[a]
            t == members[b]
        IN \A i \in Upper(s.base.i, t.base.i) + 1 .. Lower(LastIndex(s), LastIndex(t)) :
             EntryAt(s, i).t = EntryAt(t, i).t =>
               \A j \in Upper(s.base.i, t.base.i) + 1 .. i : EntryAt(s, j) = EntryAt(t, j)

(* All commit the same.                                                    *)
StateMachineSafety ==
    \A a, b \in Ids :
        LET s == members[a]
            t == members[b]
        IN \A i \in Upper(s.base.i, t.base.i) + 1 .. Lower(s.commit, t.commit) : EntryAt(s, i) = EntryAt(t, i)

(* A later leader has what is committed.                                   *)
LeaderCompleteness ==
    \A a, b \in Ids :
        LET s == members[a]
            l == members[b]
        IN l.role = "leader" /\ l.term >= s.term =>
             \A i \in Upper(s.base.i, l.base.i) + 1 .. s.commit :
                i <= LastIndex(l) /\ EntryAt(l, i) = EntryAt(s, i)

(* What is committed is on a majority of disks, of both sets while joint:  *)
(* by what each disk holds, whatever its member was told. Before the       *)
(* membership in force is committed, the one before has decided.           *)
OnDisk(s, i, e) ==
    LET d == s.disk IN
    i <= d.base.i \/ (i <= d.base.i + Len(d.log) /\ d.log[i - d.base.i] = e)
DurableCommit ==
    \A id \in Ids :
        LET s == members[id] IN
        s.role = "leader" /\ s.commit > s.base.i /\ ConfIndex(s) <= s.commit =>
            Quorum(Conf(s), {v \in Voters(Conf(s)) : OnDisk(members[v], s.commit, EntryAt(s, s.commit))})

(* One vote per term, never forgotten: a vote that was sent is on the disk.*)
VoteDurability ==
    \A m \in sent : m.k = "vote" =>
        LET d == members[m.from[1]].disk IN d.term > m.t \/ (d.term = m.t /\ d.vote = m.for[1])

(* A snapshot is what the group committed.                                 *)
SnapshotPrefix ==
    \A a, b \in Ids :
        LET s == members[a]
            t == members[b]
        IN s.snap.i > t.base.i /\ s.snap.i <= t.commit => TermAt(t, s.snap.i) = s.snap.t

OneChangeAtATime ==
    \A id \in Ids : LET s == members[id] IN
        Len(s.confs) <= 1 \/ s.confs[Len(s.confs) - 1].i <= s.commit \/ s.role # "leader"

Symmetry == Permutations(Group)
=============================================================================
