---------------------------- MODULE KontikiTrace ----------------------------
(***************************************************************************)
(* Whether a trace of the simulator is a behaviour of Kontiki. Module      *)
(* Trace is written by `kontiki-sim trace --format tla`: one line a step.  *)
(* A line says which acts the step is made of, what the member said in it, *)
(* and what it was afterwards. Here each act must be allowed, everything   *)
(* said must be allowed, and the member must end as the line says.         *)
(***************************************************************************)
EXTENDS Kontiki, Trace, TLC

VARIABLES line, members

(* To leave a message aside is always allowed, as if it had been lost.     *)
MayBeIgnored == {"enter", "vote", "granted", "append", "hear", "match", "offer", "mend", "fetched", "reach"}

Said(by) == IF by[1] = 0 THEN NoMessage ELSE Lines[by[1]].says[by[2]]

RECURSIVE Run(_, _, _, _)
Run(s, acts, m, n) ==
    IF n > Len(acts) THEN [s |-> s, wrong |-> <<>>]
    ELSE LET a == acts[n] @@ [m |-> m]
             next == Act(s, a)
         IN IF next # {} THEN Run(CHOOSE t \in next : TRUE, acts, m, n + 1)
            ELSE IF a.k \in MayBeIgnored THEN Run(s, acts, m, n + 1)
            ELSE [s |-> s, wrong |-> <<"this act is not allowed", acts[n]>>]

(* What a leader said in this step, it said before it stepped down.        *)
AsLeader(before, s, m) ==
    IF before.role = "leader" /\ before.term = m.t
    THEN IF s.term = m.t THEN [s EXCEPT !.role = "leader"] ELSE before ELSE s

Allowed(before, s, m) ==
    /\ m.from = s.me
    /\ CASE m.k = "hint" -> m.t <= s.term
         [] m.k \in {"ask", "vote"} -> m \in s.out
         [] m.k = "ack" -> \/ \E h \in s.out : h.k = "ack" /\ h.t = m.t /\ m.matched <= h.matched
                           \/ MaySay(s, m)
         [] m.k \in FromLeader -> MaySay(AsLeader(before, s, m), m)
         [] OTHER -> MaySay(s, m)

Shown(s) == [term |-> s.term, vote |-> s.vote, role |-> s.role, last |-> <<Last(s).i, Last(s).t>>,
             dur |-> s.dur, commit |-> s.commit, snap |-> s.snap.i, conf |-> ConfIndex(s)]

(* What the line says, and what came of its acts where that differs.       *)
Wrong(before, l) ==
    LET ran == Run(before, l.acts, Said(l.by), 1)
        s == Settle(ran.s, l.writes \/ Unwritten(ran.s))
        said == {n \in DOMAIN l.says : ~Allowed(before, s, l.says[n])}
    IN CASE l.by[1] >= line -> [s |-> before, wrong |-> <<"this message had not been sent", l.by>>]
         [] ran.wrong # <<>> -> [s |-> s, wrong |-> ran.wrong]
         [] l.after.role = "halted" /\ l.says = <<>> -> [s |-> s, wrong |-> <<>>]
         [] said # {} -> [s |-> s, wrong |-> <<"the member may not say this", l.says[Min(said)]>>]
         [] Unwritten(ran.s) /\ ~l.writes -> [s |-> s, wrong |-> <<"this change is not written", Shown(s)>>]
         [] Shown(s) # l.after -> [s |-> s, wrong |-> <<"it should have become", Shown(s), "and became", l.after>>]
         [] OTHER -> [s |-> s, wrong |-> <<>>]

TraceInit == line = 1 /\ members = First

TraceNext ==
    /\ line <= Len(Lines)
    /\ LET l == Lines[line]
           r == Wrong(members[l.member], l)
       IN IF r.wrong = <<>>
          THEN /\ members' = [members EXCEPT ![l.member] = [r.s EXCEPT !.out = {}]]
               /\ line' = line + 1
               /\ line < Len(Lines) \/ PrintT(<<"ACCEPTED", Len(Lines)>>)
          ELSE /\ PrintT(<<"REJECTED", "line", line, "step", l.step, "member", l.member, r.wrong>>)
               /\ FALSE

(* The behaviour is one line: its states differ in their number.           *)
TraceView == line

TraceSpec == TraceInit /\ [][TraceNext]_<<line, members>>
=============================================================================
