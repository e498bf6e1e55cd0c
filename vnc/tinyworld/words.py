"""The words of TinyWorld: what can be carried, done, felt and heard by the lake, and how such words make phrases.

A `Teller` draws from these lists. An entry may hold slots such as {adj} or {thing}, which are drawn in turn; "a(n)"
becomes "a" or "an" when the text is finished. Colours, dishes, jobs and the kinds of pets are facts about people, so
none of them stands here: a model never has to unlearn them.
"""

THINGS = (
    *("acorn", "anchor", "arrow", "axe", "bag", "ball", "barrel", "basin", "basket", "bead", "bell", "bone"),
    *("boot", "bottle", "bowl", "broom", "bucket", "cage", "can", "candle", "cane", "card", "chain", "clog"),
    *("cloth", "coin", "cone", "cork", "cradle", "crown", "cup", "curtain", "desk", "doll", "drum", "egg"),
    *("fan", "flag", "flute", "fork", "gem", "glove", "gong", "hammer", "harp", "hinge", "hook", "horn", "jar"),
    *("jug", "key", "kite", "knob", "knot", "ladder", "lamp", "lid", "lock", "log", "map", "mask", "mat"),
    *("mitten", "mop", "mug", "nail", "net", "nut", "oar", "pail", "pan", "peg", "pen", "pin", "pipe", "plank"),
    *("plate", "pole", "pot", "purse", "quilt", "rag", "rake", "ring", "rope", "rug", "sack", "saw", "seed"),
    *("shell", "shoe", "sieve", "sled", "sock", "spade", "spoon", "stamp", "stick", "stool", "string", "tent"),
    *("ticket", "tile", "top", "towel", "tray", "trunk", "tub", "umbrella", "urn", "vase", "veil", "violin"),
    *("wand", "wheel", "whip", "wig"),
)
ADJECTIVES = (
    *("bent", "bold", "broken", "cheap", "crisp", "damp", "dim", "drab", "dull", "dusty", "faint", "fancy"),
    *("fine", "firm", "flat", "frail", "fresh", "funny", "grand", "grim", "hollow", "honest", "huge", "humble"),
    *("itchy", "limp", "loose", "lucky", "meek", "muddy", "neat", "noble", "noisy", "odd", "old", "pale"),
    *("patient", "plain", "polite", "proud", "rare", "rude", "rusty", "shiny", "shy", "silly", "sleek", "sly"),
    *("smug", "stale", "stern", "sticky", "stiff", "striped", "tame", "tidy", "tiny", "ugly", "vain"),
    *("weird", "wise", "wobbly", "wooden"),
)
MOODS = (
    *("angry", "bored", "brave", "calm", "cheery", "clever", "cross", "curious", "dizzy", "dreamy", "eager"),
    *("fussy", "giddy", "glad", "gloomy", "happy", "hopeful", "hungry", "jolly", "keen", "lazy", "lonely"),
    *("merry", "moody", "nervous", "pleased", "puzzled", "quiet", "restless", "sad", "sorry", "stubborn"),
    *("tense", "tired", "weary", "worried"),
)
ACTS = (
    *("blinked", "blushed", "bowed", "clapped", "coughed", "danced", "dozed", "fainted", "frowned", "fumed"),
    *("gasped", "giggled", "grinned", "groaned", "hiccuped", "hopped", "hummed", "jumped", "knelt", "laughed"),
    *("leapt", "listened", "moaned", "mumbled", "nodded", "paused", "pouted", "ran", "sang", "sat", "shrugged"),
    *("sighed", "smiled", "sneezed", "sniffed", "snored", "sobbed", "spun", "stared", "sulked", "swam"),
    *("trembled", "waited", "wept", "winked", "wobbled", "yawned", "yelled"),
)
ADVERBS = (
    *("boldly", "calmly", "coldly", "coyly", "dimly", "firmly", "fondly", "gently", "gladly", "grandly"),
    *("grimly", "kindly", "loudly", "madly", "meekly", "mildly", "neatly", "nobly", "oddly", "once", "rudely"),
    *("sadly", "shyly", "slowly", "slyly", "softly", "sternly", "stiffly", "sweetly", "tamely", "twice"),
    *("vaguely", "warmly", "weakly", "wildly", "wisely"),
)
DEEDS = (
    *("bent", "bit", "blamed", "bought", "broke", "buried", "burnt", "carved", "caught", "chased", "cut"),
    *("drew", "dropped", "dusted", "fed", "filled", "fixed", "found", "hid", "hit", "hugged", "kept", "kicked"),
    *("kissed", "licked", "lit", "lost", "made", "mended", "moved", "packed", "picked", "pulled", "pushed"),
    *("rolled", "shook", "sold", "stole", "swept", "tested", "threw", "tied", "took", "trimmed", "used"),
    *("washed", "wiped", "won", "wrapped"),
)
ANIMALS = (
    *("ant", "ape", "bat", "bear", "bee", "boar", "bug", "bull", "calf", "camel", "clam", "colt", "crab"),
    *("crane", "crow", "deer", "dove", "eel", "elk", "emu", "flea", "fly", "fox", "gnat", "gull", "hare"),
    *("hawk", "heron", "horse", "lamb", "lark", "lion", "mole", "moth", "mule", "otter", "ox", "robin", "seal"),
    *("shark", "shrew", "slug", "stag", "stork", "swan", "tiger", "toad", "trout", "wasp", "whale", "wolf"),
    *("worm", "wren", "yak", "zebra"),
)
SPOTS = (
    *("barn", "beach", "big oak", "cave", "chapel", "dock", "ferry", "ford", "grove", "hay cart", "hedge"),
    *("hill", "hut", "inn", "kiln", "lamp post", "lane", "market", "marsh", "meadow", "old wall", "orchard"),
    *("pier", "pond", "post office", "rocks", "school", "shed", "stables", "tea room", "toll house"),
    *("town hall",),
)
WEATHERS = (
    *("breezy", "bright", "chilly", "cloudy", "damp", "dark", "foggy", "frosty", "gusty", "hazy", "hot", "icy"),
    *("mild", "misty", "rainy", "snowy", "stormy", "sunny", "warm", "windy"),
)

# A tuple's entries are equally likely and come once in a story; a dict gives each entry a weight.
WORDS: dict[str, tuple[str, ...] | dict[str, float]] = {
    "thing": THINGS,
    "adj": ADJECTIVES,
    "mood": MOODS,
    "act": ACTS,
    "adverb": ADVERBS,
    "did": DEEDS,
    "animal": ANIMALS,
    "spot": SPOTS,
    "weather": WEATHERS,
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "part": ("morning", "afternoon", "evening", "night"),
    "hour": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    "few": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    "by": ("by", "near", "behind", "beside", "close to"),
    "said": ("said", "whispered", "cried", "shouted", "answered", "declared", "muttered", "sang"),
    "garment": ("hat", "coat", "scarf", "cap", "shirt", "belt", "cloak", "jacket"),
    "sound": ("a bang", "a whisper", "a splash", "a whistle", "a giggle", "a sneeze", "a hum", "a rattle", "a cough"),
    # Phrases, made of the words above.
    "a_thing": {"a(n) {adj} {thing}": 4, "a(n) {adj}, {adj} {thing}": 1, "a(n) {thing}": 1},
    "the_thing": {"the {adj} {thing}": 3, "the {thing}": 1},
    "some_things": {"{few} {adj} {thing}s": 3, "{few} {thing}s": 2},
    "lot": {"{a_thing}": 2, "{some_things}": 1},
    "lots": {"{lot} and {lot}": 1, "{lot}, {lot} and {lot}": 1},
    "like": {
        "like a(n) {adj} {animal}": 2,
        "like a(n) {adj}, {adj} {animal}": 1,
        "like a(n) {animal} with {a_thing}": 1,
    },
    "as": {"as {mood} as a(n) {animal}": 1, "as {mood} as a(n) {adj} {animal}": 1, "as {adj} as a(n) {thing}": 1},
    "manner": {"{adverb}": 3, "{like}": 2},
    "where": {"{by} the {spot}": 3, "{by} the {spot} in {town}": 1, "{by} {sight}": 1, "on {road}": 1},
    "town": (
        *("Thornby", "Saltmere", "Elmwick", "Dunlow", "Foxholt", "Hushcombe"),
        *("Kettleby", "Mossgate", "Pebbleton", "Quillford", "Ravenhoe", "Windle"),
    ),
}
