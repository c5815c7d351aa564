"""English words too common to begin an identifier.

A short list of our own: articles, pronouns, auxiliaries, prepositions, conjunctions and
a few adverbs. # Differs from NLTK's English list, which the reference sampler reads:
that one also holds single letters and the halves of contractions ("ain", "ll").
"""

from __future__ import annotations

_WORDS = """
a an the
i me my mine myself we us our ours ourselves you your yours yourself yourselves
he him his himself she her hers herself it its itself they them their theirs
themselves one someone something
this that these those who whom whose which what where when why how
am is are was were be been being do does did doing done have has had having
can could may might must shall should will would
i'm you're he's she's it's we're they're that's don't doesn't didn't isn't aren't
wasn't weren't won't can't couldn't shouldn't wouldn't hasn't haven't hadn't
and or but nor so yet if then else because as until while though although unless
whether than
of at by for with about against between into through during before after above
below to from up down in out on off over under onto upon within without via per
again further once here there now just only also very too more most much many
some any all both each few other another such same own no not
"""

ENGLISH: frozenset[str] = frozenset(_WORDS.split())
