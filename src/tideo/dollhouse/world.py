"""What exists in the dollhouse: rooms, people, things, atomic actions, activities and purposes.

This module is tables only. Every action phrase is a gerund ("pouring tea"), so captions, questions and options can use
the same words or a paraphrase without inflecting them.
"""

from __future__ import annotations

from dataclasses import dataclass

ROOMS = ("kitchen", "dining room", "living room", "bedroom", "bathroom", "study", "garage", "garden")
SHIRTS = ("red", "blue", "green", "yellow", "white", "black", "purple", "pink")
WEATHER = ("sunny", "rainy", "snowy", "foggy", "dark")
WEATHER_PHRASES = {
    "sunny": ("the sun shines outside", "it is sunny outside"),
    "rainy": ("rain falls outside", "it is rainy outside"),
    "snowy": ("snow falls outside", "it is snowy outside"),
    "foggy": ("fog hangs outside", "it is foggy outside"),
    "dark": ("night has come outside", "it is dark outside"),
}
SHELF_ITEMS = ("plants", "books", "cups", "candles", "vases")
COUNTS = ("one", "two", "three", "four", "five")
DISTRACTORS = {
    "cat": ("a cat walks past", "a cat strolls by"),
    "dog": ("a dog runs past", "a dog trots by"),
    "ball": ("a ball rolls past", "a ball rolls by"),
    "butterfly": ("a butterfly flies past", "a butterfly flutters by"),
    "robot": ("a robot vacuum drives past", "a robot vacuum drives by"),
    "train": ("a toy train drives past", "a toy train rolls by"),
}


@dataclass(frozen=True)
class Actor:
    id: str
    noun: str  # how a question refers to the person
    looks: str  # hair, beard, glasses: for captions
    age: str  # child, adult, old
    hair: str  # colour, for the renderer
    style: str  # hair style, for the renderer
    lower: str  # trousers, skirt, shorts, dungarees
    lower_color: str


ACTORS = {
    a.id: a
    for a in (
        Actor("girl_red", "girl", "red pigtails", "child", "red", "pigtails", "skirt", "navy"),
        Actor("girl_black", "girl", "a black bob", "child", "black", "bob", "dungarees", "denim"),
        Actor("boy_blond", "boy", "short blond hair", "child", "blond", "short", "shorts", "brown"),
        Actor("boy_curly", "boy", "brown curls", "child", "brown", "curly", "trousers", "grey"),
        Actor("woman_long", "woman", "long brown hair", "adult", "brown", "long", "trousers", "navy"),
        Actor("woman_bun", "woman", "a black bun", "adult", "black", "bun", "skirt", "brown"),
        Actor("woman_tail", "woman", "a blond ponytail", "adult", "blond", "ponytail", "dungarees", "denim"),
        Actor("man_beard", "man", "a dark beard", "adult", "black", "beard", "trousers", "grey"),
        Actor("man_red", "man", "short red hair", "adult", "red", "short", "trousers", "denim"),
        Actor("man_bald", "man", "a bald head", "adult", "brown", "bald", "shorts", "navy"),
        Actor("grandma", "grandmother", "a grey bun and glasses", "old", "grey", "bun", "skirt", "plum"),
        Actor(
            "grandpa", "grandfather", "white hair and glasses", "old", "white", "short", "trousers", "brown"
        ),
    )
}

TOOLS = {
    "wipe": ("a sponge", "a cloth", "a brush", "a paper towel", "a feather duster"),
    "carry": ("a box", "a basket", "a bag", "a tray", "a bucket"),
    "rest": ("a chair", "a stool", "an armchair", "a bench", "a cushion"),
    "drink": ("a mug", "a glass", "a bottle", "a bowl", "a can"),
    "stir_pot": ("a spoon", "a whisk", "a fork", "a ladle", "a stick"),
}
TOOL_WORD = {"wipe": "with", "carry": "in", "rest": "on", "drink": "from", "stir_pot": "with"}


@dataclass(frozen=True)
class Action:
    id: str
    phrases: tuple[str, ...]  # gerunds; the first one is the plain name
    object: str  # the thing that it uses, as options name it


ACTIONS = {
    a.id: a
    for a in (
        # shared by many activities: they do not give the purpose away
        Action("wipe", ("wiping the table", "cleaning the table top"), "the table"),
        Action("carry", ("carrying things over", "bringing things over"), "the things"),
        Action("rest", ("taking a rest", "sitting down"), "the seat"),
        Action("drink", ("having a drink", "drinking some water"), "the drink"),
        Action("open_cupboard", ("opening a cupboard", "looking through a cupboard"), "the cupboard"),
        Action("wash_hands", ("washing hands", "rinsing hands"), "the basin"),
        Action("check_phone", ("looking at a phone", "checking a phone"), "the phone"),
        Action("read_list", ("reading a note", "going over a note"), "the note"),
        Action("sweep", ("sweeping the floor", "brushing the floor"), "the broom"),
        Action("lamp", ("switching on a lamp", "turning on a lamp"), "the lamp"),
        Action("gloves", ("putting on gloves", "pulling on gloves"), "the gloves"),
        Action("measure", ("using a tape measure", "measuring a length"), "the tape measure"),
        Action("clock", ("winding a clock", "setting an alarm clock"), "the alarm clock"),
        # kitchen
        Action("fill_kettle", ("filling a kettle", "holding a kettle under the tap"), "the kettle"),
        Action("pour_tea", ("pouring tea", "serving tea"), "the teapot"),
        Action("slice_bread", ("slicing bread", "cutting a loaf"), "the bread"),
        Action("crack_egg", ("cracking an egg", "breaking an egg"), "the eggs"),
        Action("stir_pot", ("stirring a pot", "mixing what is cooking"), "the pot"),
        Action("roll_dough", ("rolling out dough", "flattening dough"), "the rolling pin"),
        Action("use_oven", ("sliding a cake into the oven", "putting a cake into the oven"), "the oven"),
        Action("chop_carrots", ("chopping carrots", "cutting up carrots"), "the carrots"),
        Action("peel_apple", ("peeling an apple", "taking the skin off an apple"), "the apple"),
        Action("wash_dishes", ("washing dishes", "doing the dishes"), "the dishes"),
        Action("lay_plates", ("laying out plates", "setting out plates"), "the plates"),
        # cloth and care
        Action("fold_towel", ("folding towels", "stacking towels"), "the towels"),
        Action("iron_shirt", ("ironing a shirt", "pressing a shirt"), "the iron"),
        Action("hang_laundry", ("hanging up laundry", "pegging out laundry"), "the clothes line"),
        Action(
            "load_washer", ("loading a washing machine", "filling a washing machine"), "the washing machine"
        ),
        Action("pack_suitcase", ("packing a suitcase", "filling a suitcase"), "the suitcase"),
        Action("shake_pillow", ("shaking a pillow", "fluffing up a pillow"), "the pillow"),
        Action("spread_blanket", ("spreading a blanket", "smoothing a blanket"), "the blanket"),
        Action("brush_teeth", ("brushing teeth", "scrubbing teeth"), "the toothbrush"),
        Action("comb_hair", ("combing hair", "tidying up hair"), "the comb"),
        Action("vacuum", ("vacuuming the carpet", "running a vacuum cleaner"), "the vacuum cleaner"),
        # desk and play
        Action("write", ("writing a letter", "filling a page"), "the pen"),
        Action("type", ("typing on a laptop", "working on a laptop"), "the laptop"),
        Action("read_book", ("reading a book", "leafing through a book"), "the book"),
        Action("paint", ("painting a picture", "working at an easel"), "the easel"),
        Action("guitar", ("playing the guitar", "strumming the guitar"), "the guitar"),
        Action("photo", ("taking a photo", "using a camera"), "the camera"),
        Action("cut_paper", ("cutting paper", "using scissors"), "the scissors"),
        Action("blocks", ("stacking toy blocks", "building a block tower"), "the toy blocks"),
        # garden and garage
        Action("water_plants", ("watering flowers", "giving flowers water"), "the watering can"),
        Action("dig", ("digging a hole", "using a spade"), "the spade"),
        Action("rake", ("raking leaves", "gathering leaves"), "the rake"),
        Action("hammer", ("hammering a nail", "driving a nail"), "the hammer"),
        Action("saw", ("sawing a plank", "cutting a plank"), "the saw"),
        Action("pump", ("pumping up a tyre", "filling a tyre"), "the bicycle wheel"),
        Action("wrench", ("turning a wrench", "tightening a bolt"), "the wrench"),
        # parties, sport, pets
        Action("balloon", ("blowing up a balloon", "filling a balloon"), "the balloon"),
        Action("gift", ("wrapping a gift", "tying a bow around a gift"), "the gift"),
        Action("candles", ("lighting candles", "putting fire to candles"), "the matches"),
        Action("weights", ("lifting weights", "raising a barbell"), "the barbell"),
        Action("stretch", ("stretching both arms", "doing stretches"), "the mat"),
        Action("rope", ("jumping rope", "skipping with a rope"), "the rope"),
        Action("feed_pet", ("feeding a rabbit", "giving food to a rabbit"), "the rabbit"),
    )
}
SHARED = tuple(list(ACTIONS)[:13])


@dataclass(frozen=True)
class Activity:
    """A partially ordered script: `opening` (optional) < free steps in any order < `closing` (optional).

    An episode takes some of the `free` steps; all of them are equally likely, in every order.
    """

    id: str
    phrases: tuple[str, ...]
    rooms: tuple[str, ...]
    opening: str
    closing: str
    free: tuple[str, ...]


def _activity(
    id: str, phrases: str, rooms: str, opening: str, closing: str, own: str, shared: str
) -> Activity:
    return Activity(
        id=id,
        phrases=tuple(phrases.split("/")),
        rooms=tuple(rooms.split("/")),
        opening=opening,
        closing=closing,
        free=tuple(own.split() + shared.split()),
    )


ACTIVITIES = {
    a.id: a
    for a in (
        _activity("tea", "making tea/preparing a pot of tea", "kitchen/dining room/garden",
                  "fill_kettle", "pour_tea", "slice_bread peel_apple stir_pot lay_plates",
                  "wipe carry open_cupboard clock"),
        _activity("cake", "baking a cake/making a cake", "kitchen/dining room",
                  "crack_egg", "use_oven", "roll_dough peel_apple stir_pot wash_dishes",
                  "wash_hands read_list gloves clock"),
        _activity("soup", "cooking soup/making soup", "kitchen/garden/dining room",
                  "chop_carrots", "stir_pot", "fill_kettle slice_bread peel_apple wash_dishes",
                  "drink open_cupboard read_list wash_hands"),
        _activity("breakfast", "making breakfast/preparing breakfast", "kitchen/dining room",
                  "crack_egg", "slice_bread", "fill_kettle pour_tea peel_apple lay_plates",
                  "drink wash_hands open_cupboard check_phone"),
        _activity("dishes", "cleaning up after a meal/clearing up after a meal", "kitchen/dining room",
                  "lay_plates", "wash_dishes", "fill_kettle fold_towel vacuum pour_tea",
                  "wipe sweep carry gloves"),
        _activity("laundry", "doing the laundry/taking care of the laundry", "bathroom/garage/garden",
                  "load_washer", "hang_laundry", "fold_towel iron_shirt shake_pillow spread_blanket",
                  "carry read_list rest sweep"),
        _activity("ironing", "getting clothes ready/putting clothes in order", "bedroom/living room/bathroom",
                  "hang_laundry", "iron_shirt", "fold_towel load_washer comb_hair pack_suitcase",
                  "lamp drink open_cupboard measure"),
        _activity("packing", "packing for a journey/getting the luggage ready", "bedroom/living room/study",
                  "fold_towel", "pack_suitcase", "iron_shirt photo read_book comb_hair",
                  "check_phone read_list carry clock"),
        _activity("morning", "getting ready for the day/freshening up", "bathroom/bedroom",
                  "brush_teeth", "comb_hair", "stretch iron_shirt spread_blanket hang_laundry",
                  "wash_hands lamp check_phone drink"),
        _activity("bed", "making the bed/preparing the bed", "bedroom/study/living room",
                  "shake_pillow", "spread_blanket", "fold_towel vacuum brush_teeth read_book",
                  "lamp clock rest sweep"),
        _activity("cleaning", "cleaning the house/doing the housework", "living room/bedroom/study/bathroom",
                  "fold_towel", "vacuum", "wash_dishes shake_pillow water_plants hang_laundry",
                  "wipe sweep gloves open_cupboard"),
        _activity("homework", "doing homework/studying for school", "study/bedroom/living room",
                  "read_book", "write", "type cut_paper blocks peel_apple",
                  "drink lamp measure clock"),
        _activity("work", "working from home/doing office work", "study/living room/bedroom",
                  "write", "type", "photo read_book pour_tea cut_paper",
                  "check_phone read_list lamp drink"),
        _activity("picture", "making a work of art/creating a piece of art", "study/garden/living room",
                  "photo", "paint", "cut_paper saw write guitar",
                  "wipe wash_hands measure rest"),
        _activity("music", "practising for a concert/rehearsing a song", "living room/bedroom/garage",
                  "stretch", "guitar", "write read_book photo type",
                  "lamp clock rest carry"),
        _activity("toys", "playing with toys/having playtime", "living room/bedroom/garden",
                  "balloon", "blocks", "paint cut_paper rope feed_pet",
                  "open_cupboard rest sweep wash_hands"),
        _activity("planting", "planting a flower bed/taking care of the flower bed", "garden/garage",
                  "dig", "water_plants", "rake photo wrench feed_pet",
                  "gloves carry measure wash_hands"),
        _activity("leaves", "clearing the yard/tidying up the yard", "garden/garage",
                  "water_plants", "rake", "dig saw wash_dishes stretch",
                  "gloves sweep rest drink"),
        _activity("bike", "repairing a bicycle/fixing a bicycle", "garage/garden",
                  "wrench", "pump", "hammer saw paint photo",
                  "wipe gloves check_phone measure"),
        _activity("shelf", "building furniture/putting furniture together", "garage/study/living room",
                  "saw", "hammer", "wrench paint dig vacuum",
                  "measure read_list gloves sweep"),
        _activity("party", "decorating for a party/putting up party decorations", "living room/dining room/garden",
                  "balloon", "candles", "lay_plates gift guitar cut_paper",
                  "wipe carry lamp clock"),
        _activity("presents", "preparing presents/getting presents ready", "study/bedroom/dining room",
                  "cut_paper", "gift", "write photo balloon paint",
                  "measure check_phone open_cupboard lamp"),
        _activity("exercise", "doing a workout/exercising", "garden/garage/bedroom",
                  "stretch", "weights", "rope guitar brush_teeth pump",
                  "drink check_phone clock rest"),
        _activity("pets", "looking after a pet/caring for a pet", "garden/living room/bathroom",
                  "shake_pillow", "feed_pet", "chop_carrots water_plants photo rope",
                  "carry sweep wash_hands rest"),
        _activity("dinner", "setting the table for dinner/getting the dinner table ready", "dining room/kitchen",
                  "candles", "lay_plates", "fold_towel pour_tea slice_bread chop_carrots",
                  "wipe open_cupboard carry read_list"),
    )
}  # fmt: skip

PURPOSES = {
    "birthday": ("getting everything ready for a birthday", ("cake", "party", "presents", "dinner")),
    "guests": ("welcoming guests for the evening", ("dinner", "soup", "cleaning", "music")),
    "holiday": ("preparing to go on holiday", ("packing", "laundry", "bike", "exercise")),
    "spring": ("giving the whole home a spring clean", ("cleaning", "laundry", "leaves", "dishes")),
    "school": ("going through a school day at home", ("breakfast", "homework", "toys", "bed")),
    "office": ("managing a working day at home", ("morning", "work", "tea", "ironing")),
    "garden": ("spending the day on the garden", ("planting", "leaves", "pets", "tea")),
    "repair": ("fixing up things around the house", ("bike", "shelf", "picture", "planting")),
    "healthy": ("following a healthy routine", ("exercise", "morning", "soup", "breakfast")),
    "creative": ("spending a creative afternoon", ("picture", "music", "presents", "toys")),
    "evening": ("closing the day calmly", ("dishes", "ironing", "bed", "homework")),
    "care": ("taking care of the family and its pet", ("pets", "breakfast", "laundry", "work")),
}  # fmt: skip

# A thing that lies at the side, and what a person could do with it (STAR's feasibility).
SIDE_OBJECTS = {
    "an umbrella": "opening an umbrella",
    "a violin": "playing the violin",
    "a kite": "flying a kite",
    "a puzzle": "doing a puzzle",
    "a telescope": "looking at the stars",
    "a chessboard": "playing chess",
    "a drum": "beating a drum",
    "a newspaper": "reading the news",
}
