"""The words that name the VOC classes, and the compounds that hold such a word and name no class.

Data only, read by `ovamgen.classes.voc`. Commas part phrases and strokes part choices:
"bike/bicycle rack" is two phrases. The aim is that a mention means a visible object, so words with
a common second meaning (coach, crane, scooter, table, plant) are left out rather than guessed at.
"""

from __future__ import annotations

NOUNS = {
    "aeroplane": "plane, jet, airliner, jetliner, biplane, seaplane",
    "bicycle": "bike",
    "bird": """
        seagull, gull, pigeon, duck, duckling, swan, parrot, parakeet, cockatoo, owl, eagle, hawk,
        falcon, crow, sparrow, pelican, flamingo, heron, egret, penguin, ostrich, peacock,
        hummingbird, woodpecker, rooster, stork, toucan, vulture, baby bird/duck""",
    "boat": """
        sailboat, ship, canoe, kayak, yacht, ferry, speedboat, rowboat, motorboat, tugboat, dinghy,
        catamaran, lifeboat, steamboat, houseboat, barge, swan boat""",
    "bottle": "baby bottle",
    "bus": "minibus, trolleybus",
    "car": """
        automobile, sedan, taxi, taxicab, suv, minivan, hatchback, limousine, limo, jeep,
        station wagon""",
    "cat": "kitten, kitty, feline, tabby, baby cat/kitten",
    "chair": "armchair, recliner, highchair, deckchair, baby chair",
    "cow": "bull, ox, heifer, baby cow/bull",
    "diningtable": "dining/dinning room table, dinning/dinner/kitchen/breakfast/restaurant table",
    "dog": """
        puppy, pup, doggy, doggie, poodle, labrador, dachshund, terrier, golden retriever, bulldog,
        bull dog, german shepherd, corgi, chihuahua, pug, beagle, rottweiler, dalmatian, pitbull,
        pit bull, collie, spaniel, sheepdog, sheep dog, baby dog/puppy""",
    "horse": "pony, foal, stallion, mare, baby horse",
    "motorbike": "motor bike/cycle/scooter, motorscooter, moped, dirt/sport bike, dirtbike, vespa",
    "person": """
        man, woman, boy, girl, child, kid, baby, toddler, infant, teenager, guy, lady, gentleman,
        fisherman, fireman, policeman, policewoman, businessman, cowboy, cow boy, cowgirl, cow girl,
        skier, snowboarder, skateboarder, skater, surfer, windsurfer, rider, cyclist, bicyclist,
        motorcyclist, driver, bus/taxi/car/train driver, train conductor, pedestrian, player,
        umpire, referee, batter, catcher, golfer, swimmer, jockey, hiker, jogger, athlete, soldier,
        officer, firefighter, worker, farmer, herder, shepherd, chef, waiter, waitress, tourist,
        student, teacher, spectator, bystander, bride, lifeguard, shopper, vendor, musician,
        performer, dancer""",
    "pottedplant": "house plant, houseplant, potted flower/tree/palm/fern/cactus/bush/shrub",
    "sheep": "lamb, ewe, baby lamb/sheep",
    "sofa": "settee, loveseat, love seat",
    "train": "locomotive, steam engine, train/rail/railway/railroad/subway car, railcar",
    "tvmonitor": "television, monitor, flat screen, flatscreen, t.v",
}
"""Nouns by class, beside its own names; the plural is made by rule."""

FORMS = {
    "aeroplane": "aircraft",
    "bird": "goose, geese",
    "bus": "busses",
    "cow": "cattle, oxen",
    "person": "people, children, human, humans, someone, somebody, individuals, passengers",
    "pottedplant": "plant/flower/tree in a pot, plants/flowers/trees in pots",
    "tvmonitor": "t.v.",
}
"""Taken exactly as they stand: irregular plurals, and words whose other form means another thing
("passengers" are people, "passenger" begins a passenger train)."""

COMPOUNDS = """
    paper plane/airplane, plane/airplane ticket, jet ski/engine/bridge/pack, water jet,
    bike/bicycle rack/lane/path/trail/shop/helmet/seat/tire/wheel/lock/basket/sign,
    exercise/stationary bike,
    bird house/bath/feeder/cage/seed/nest/dropping, bird's eye, birds eye, bird of paradise,
    angry bird, bird/eagle kite, rubber duck/ducky, roast/roasted/peking/donald duck, duck tape,
    duck sauce, crow bar,
    gravy boat, boat house/dock/ramp/shoe/slip/trailer, space/rocket ship, ship yard,
    ferry wheel/terminal/building,
    bottle opener/cap/top/neck/nose/rocket/brush/rack/holder, hot water bottle,
    bus station/terminal/depot/lane/shelter/ticket/bench/sign/schedule/seat,
    cable/trolley/street/tram/box/freight/cargo/coal/passenger/tank/dining/cattle/bumper car,
    car seat/door/window/mirror/dealership/key/trunk/hood/tire/wheel/roof/dashboard/lot/alarm,
    taxi stand,
    cat food/litter/tree/tower/bowl/bed/toy/carrier/house/door/fish/tail, kitty litter, hello kitty,
    wheel/lift chair, chair lift/cushion,
    cow hide/bell/print/skin/skull/catcher, red bull, bull horn/dozer, bull's eye, bulls eye,
    hot/corn/chili/chilli/cheese/prairie/veggie/polish/chicago dog, foot long dog,
    chicago style dog, dog food/house/bed/bowl/collar/leash/toy/tag/biscuit/crate/cage/kennel,
    doggy/doggie bag, pup tent,
    sea/saw/rocking/hobby/wooden/pommel/carousel horse, horse trailer/stable/shoe/fly/barn,
    pony tail,
    motorcycle/motorbike helmet/jacket/shop/tire/wheel/seat,
    snow/stick/tin/spider/iron/bat/bread man, man hole/cave, man hole cover,
    lady bug/bird/finger, kid goat,
    baby elephant/giraffe/zebra/bear/goat/calf/rhino/hippo/monkey/deer/pig/animal,
    baby carrot/carriage/stroller/crib/monitor/shower/seat, baby grand piano,
    cd/dvd/record/music/media/mp3/cassette/tape/vcr/video player,
    driver's/drivers/driver side/seat/license/licence, screw driver, fish/pancake/cake batter,
    batter's/batters box, catcher's/catchers mitt/mask, dream catcher, shepherd's/shepherds pie,
    kid's/kids meal/menu, children's/childrens book/menu,
    men's/mens/women's/womens/ladies/ladies' room/restroom/bathroom/toilet,
    lamb chop/shank/stew, rack/leg of lamb, roast lamb, sheep skin,
    sofa chair/cushion/table, couch cushion/pillow/potato,
    train station/track/depot/yard/platform/bridge/ticket/rail/crossing/tunnel/whistle/terminal,
    train trestle, wedding/bridal train, train of thought,
    tv/television stand/remote/cabinet/console/tray/tower/antenna/camera/studio/station,
    tv/television dinner/controller/channel/commercial/table/guide/room/network,
    heart monitor, monitor lizard
"""
"""Compounds, with their plurals, that hold a class's word and do not name the class."""

COMPOUNDS_WITHOUT_PLURAL = """
    bus stop/pass/route, car park/wash/show, dog park/show/walk/sled, cat nap/walk,
    train stop/set/line/signal, to train, tv/television show/program/programme/series,
    jet black, jet of, jets of, man made, people mover, human sized,
    baby blue/corn/spinach/broccoli/powder/food, baby bok choy
"""
"""The same where the plural is no compound: "the bus stops here" names a bus."""

IMITATIONS_BEFORE = frozenset(
    ["toy", "stuffed", "plush", "model", "lego", "cartoon", "origami", "porcelain", "gingerbread"]
)
"""What stands before a noun that the picture then does not show: "toy train"."""

IMITATIONS_AFTER = frozenset(
    [
        *["statue", "sculpture", "statuette", "figurine", "doll", "puppet", "costume", "ornament"],
        *["statues", "sculptures", "statuettes", "figurines", "dolls", "puppets", "costumes"],
        *["ornaments", "cutout", "cutouts", "shaped", "themed"],
    ]
)
"""What stands after a noun that the picture then does not show: "horse statue"."""
