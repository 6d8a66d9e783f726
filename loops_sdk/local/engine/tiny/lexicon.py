"""The words that the procedural corpus is built from.

Decides which names, things and plain facts the tiny model can ever have heard of. Refuses to know about sentences: the
tables are data, and `prose`, `sums` and `dialogues` put them into words.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> dict[str, str]:
    """Read "left: right, left: right" into a table."""
    entries = (entry.partition(":") for entry in text.split(","))
    return {left.strip(): right.strip() for left, _, right in entries}


NAMES: Final = _words(
    "Tom Anna Ben Mia Sam Lily Max Emma Leo Rosa Jack Nora Finn Ida Paul Ella Oscar Lucy Hugo Clara Adam Eva Noah "
    "Ruth Jonas Maya Peter Sara Theo Alice David Julia Erik Olga Ivan Nina Omar Leila Ravi Priya Kenji Yuki Chen Mei "
    "Diego Carla Luis Elena Marco Bianca Felix Greta Simon Martha Arthur Agnes Henry Grace Oliver Zoe Victor Irene "
    "Walter Vera"
)
PLACES: Final = _words(
    "park garden forest village school library museum market harbour island beach farm kitchen castle station river "
    "lake hill bakery tower mill bridge town city lighthouse zoo theatre field valley square cabin barn"
)
FEELINGS: Final = _words("happy sad tired proud hungry surprised calm brave curious sleepy glad worried cheerful quiet")
WEATHERS: Final = _words("sunny rainy cold warm windy foggy cloudy snowy hot stormy")
COLOURS: Final = _words("red blue green yellow white black brown orange purple pink grey")
SIZES: Final = _words("small big little large tiny huge")
DAYS: Final = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS: Final = _words("January February March April May June July August September October November December")
SEASONS: Final = _words("spring summer autumn winter")
ORDINALS: Final = _words("first second third fourth fifth sixth seventh eighth ninth tenth")
NUMBER_WORDS: Final = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
OBJECTS: Final = _words(
    "ball book key lamp box cup hat coin map rope bell stone boat kite drum chair basket letter clock spoon blanket "
    "umbrella candle shell feather button bag bottle plate brush ladder pencil scarf picture ticket wheel"
)
FOODS: Final = _words(
    "bread soup cake cheese rice honey milk apple pear plum banana carrot potato onion tomato egg butter jam tea "
    "pasta salad pie fish bean nut cherry lemon grape peach corn"
)
MASS_NOUNS: Final = frozenset(_words("bread soup rice honey milk butter jam tea pasta salad fish corn cheese"))
JOBS: Final = _pairs(
    "baker: bakes bread, teacher: teaches children, farmer: grows food, doctor: helps sick people, sailor: sails "
    "ships, pilot: flies planes, gardener: looks after plants, painter: paints pictures, writer: writes books, cook: "
    "cooks meals, tailor: sews clothes, carpenter: makes things of wood, singer: sings songs, fisherman: catches "
    "fish, firefighter: puts out fires, keeper: looks after the lighthouse, miller: grinds grain, postman: brings "
    "letters, driver: drives a bus, captain: leads a ship"
)
SOUNDS: Final = _pairs(
    "dog: woof, cat: meow, cow: moo, sheep: baa, duck: quack, pig: oink, horse: neigh, lion: roar, owl: hoot, bee: "
    "buzz, snake: hiss, mouse: squeak, frog: croak, hen: cluck, wolf: howl"
)
YOUNG: Final = _pairs(
    "dog: puppy, cat: kitten, cow: calf, sheep: lamb, duck: duckling, pig: piglet, horse: foal, lion: cub, bear: cub, "
    "hen: chick, goat: kid, frog: tadpole, deer: fawn, goose: gosling, swan: cygnet"
)
HOMES: Final = _pairs(
    "bird: nest, bee: hive, dog: kennel, horse: stable, spider: web, rabbit: burrow, pig: sty, lion: den, fish: sea, "
    "fox: den, cow: barn, king: castle, snail: shell, ant: hill"
)
LEGS: Final = _pairs(
    "dog: four, cat: four, cow: four, horse: four, bird: two, duck: two, hen: two, ant: six, bee: six, beetle: six, "
    "spider: eight, snake: no, fish: no, fox: four, pig: four, owl: two, worm: no, mouse: four, goat: four"
)
FOOD_OF: Final = _pairs(
    "cow: grass, horse: hay, rabbit: carrots, cat: fish, mouse: cheese, bear: honey, bird: seeds, puffin: fish, "
    "squirrel: nuts, monkey: bananas, goat: leaves, frog: flies, owl: mice, seal: fish"
)
ANIMALS: Final = tuple(sorted({*SOUNDS, *YOUNG, *FOOD_OF, "fox", "rabbit", "turtle", "whale", "gull", "crab"}))
COLOUR_OF: Final = _pairs(
    "grass: green, snow: white, the sky: blue, blood: red, coal: black, a banana: yellow, a carrot: orange, milk: "
    "white, the sun: yellow, a leaf: green, a lemon: yellow, a tomato: red, chocolate: brown, a frog: green, night: "
    "black, a cherry: red, an elephant: grey, a pumpkin: orange, salt: white, a pea: green, the sea: blue, a crow: "
    "black"
)
MADE_OF: Final = _pairs(
    "a window: glass, a key: metal, a book: paper, a table: wood, a scarf: wool, a wall: stone, a shoe: leather, a "
    "candle: wax, a coin: metal, bread: flour, cheese: milk, a boat: wood, a bottle: glass, a letter: paper, jam: "
    "fruit, a snowman: snow, a pot: clay, a nest: twigs, a blanket: wool, a bell: metal"
)
OPPOSITES: Final = _pairs(
    "hot: cold, big: small, up: down, day: night, fast: slow, happy: sad, open: closed, old: young, wet: dry, full: "
    "empty, light: dark, high: low, left: right, long: short, hard: soft, loud: quiet, early: late, near: far, rich: "
    "poor, strong: weak, clean: dirty, black: white, first: last, in: out, yes: no, thick: thin, good: bad, brave: "
    "afraid, heavy: light, wide: narrow, sweet: sour, deep: shallow, easy: difficult, awake: asleep, true: false, "
    "win: lose, begin: end, buy: sell, push: pull, give: take, love: hate, come: go, laugh: cry, always: never, "
    "summer: winter"
)
IRREGULAR_PLURALS: Final = _pairs(
    "mouse: mice, child: children, foot: feet, tooth: teeth, man: men, woman: women, goose: geese, leaf: leaves, "
    "wolf: wolves, sheep: sheep, fish: fish, knife: knives, loaf: loaves, life: lives, shelf: shelves, ox: oxen"
)
PAST: Final = _pairs(
    "go: went, see: saw, eat: ate, run: ran, come: came, take: took, give: gave, find: found, make: made, sing: sang, "
    "swim: swam, fly: flew, write: wrote, read: read, speak: spoke, sleep: slept, buy: bought, bring: brought, think: "
    "thought, know: knew, sit: sat, stand: stood, fall: fell, drink: drank, begin: began, say: said, tell: told, "
    "walk: walked, play: played, jump: jumped, look: looked, open: opened, help: helped, call: called, wait: waited, "
    "paint: painted, cook: cooked, smile: smiled, laugh: laughed, close: closed, work: worked, ask: asked, rain: "
    "rained"
)
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "animal": _words("dog cat horse cow sheep lion bear fox rabbit mouse whale goat"),
    "bird": _words("owl duck gull swan puffin crow hen goose robin"),
    "fruit": _words("apple pear plum banana cherry lemon grape peach"),
    "vegetable": _words("carrot onion potato bean pea cabbage"),
    "colour": COLOURS,
    "day": DAYS,
    "month": MONTHS,
    "season": SEASONS,
    "drink": _words("tea water milk juice coffee"),
    "tool": _words("hammer saw spade brush ladder rake"),
    "number": NUMBER_WORDS[1:],
    "instrument": _words("drum piano violin flute guitar trumpet"),
}
BY_SIZE: Final = _words("ant bee mouse frog bird cat dog goat lion cow horse elephant whale")
BY_SPEED: Final = _words("snail turtle duck man dog horse car train plane rocket")
FACTS: Final = _pairs(
    "What do bees make?: honey, Where do fish live?: in water, What do cows give us?: milk, What falls from clouds?: "
    "rain, What shines at night?: the moon, What shines by day?: the sun, What do birds use to fly?: wings, What do "
    "we use to see?: our eyes, What do we use to hear?: our ears, What do we use to smell?: our nose, What do we wear "
    "on our feet?: shoes, What do we wear on our hands?: gloves, What do we wear on our head?: a hat, What tells us "
    "the time?: a clock, What opens a lock?: a key, What do hens lay?: eggs, What is ice made of?: water, What is "
    "frozen water called?: ice, What do plants need to grow?: water and light, What is bread made from?: flour, How "
    "many days are in a week?: seven, How many months are in a year?: twelve, How many hours are in a day?: 24, How "
    "many minutes are in an hour?: 60, How many seconds are in a minute?: 60, How many seasons are there?: four, How "
    "many wheels does a bicycle have?: two, How many wheels does a car have?: four, How many legs has a spider?: "
    "eight, How many fingers are on one hand?: five, How many sides does a triangle have?: three, How many sides has "
    "a square?: four, How many eyes does a cat have?: two, How many days are in a leap year?: 366, How many days are "
    "in a year?: 365, Which season is the coldest?: winter, Which season is the hottest?: summer, What comes after "
    "winter?: spring, Which animal has a long trunk?: the elephant, Which animal has a long neck?: the giraffe, Which "
    "planet do we live on?: Earth, What is the biggest animal?: the whale, Where does the sun rise?: in the east, "
    "Where does the sun set?: in the west, What do we call a baby?: a very young child, What melts in the sun?: snow, "
    "What do we read?: books, Where do we borrow books?: in a library, Where do we buy bread?: in a bakery, Where do "
    "boats stay?: in a harbour, What guides ships at night?: a lighthouse, Where do trains stop?: at a station, Where "
    "do children learn?: at school, What do sheep give us?: wool, What do you use to cut paper?: scissors, What do "
    "you use in the rain?: an umbrella, What colour do red and yellow make?: orange, What colour do blue and yellow "
    "make?: green, What colour do red and white make?: pink, What colour do black and white make?: grey, What colour "
    "do red and blue make?: purple, What is the first month?: January, What is the last month?: December, What is the "
    "first letter of the alphabet?: A, What is the last letter of the alphabet?: Z"
)
