"""What people say to an assistant about anything but shops, telephones, money and accounts."""

from typing import Final

DOMAINS: Final = {
    "weather": (
        "will it rain in {town} {time}", "how warm does it get in {town} {time}", "do i need an umbrella in {town}",
        "how strong is the wind near {town}", "when does the sun set in {town}", "is there snow in {town} {time}",
        "what will the sky be like over {town} {time}", "is fog expected {time} around {town}",
    ),
    "music": (
        "play something by a {genre} band", "put on some {genre} for {task}", "who wrote this {genre} song",
        "turn the music down a little", "skip this song, i want {genre}", "make a list of {genre} songs for {task}",
        "what instrument leads in {genre}", "hum me a {genre} tune", "how do i tune a {instrument}",
        "teach me three chords on the {instrument}",
    ),
    "travel": (
        "what should i see in {town} in two days", "how far is {town} from {city}", "which museum in {town} has {art}",
        "what language do they speak around {town}", "is it better to walk or cycle from {town} to {city}",
        "tell me about the old harbour of {town}", "what is the best season for {town}",
        "plan a weekend in {city} for people who like {art}",
    ),
    "cooking": (
        "how long do i boil {food}", "what goes well with {food}", "give me a recipe with {food} and {spice}",
        "can i use {spice} in a stew of {food}", "how do i keep {food} fresh", "my {food} came out too salty",
        "how many minutes does {food} need in the oven", "a vegan dish with {food} please",
        "what can i cook from {food} and {other_food}",
    ),
    "sums": (
        "what is {figure} times {other_figure}", "how much is {figure} plus {other_figure}",
        "what is the square root of {figure}", "divide {figure} by {other_figure}", "is {figure} a prime",
        "how many degrees are in a shape with {figure} corners", "round {figure} divided by 7 to two places",
        "what is {figure} per cent of {other_figure}", "solve x plus {figure} equals {other_figure}",
    ),
    "small talk": (
        "how was your {part_of_day}", "do you ever get tired of {task}", "tell me something nice this {part_of_day}",
        "what do you think about {hobby}", "are you a robot or do you enjoy {hobby}", "do you dream about {animal}s",
        "i am bored of {task}, talk to me", "what makes you laugh in the {part_of_day}",
        "did you sleep well this {part_of_day}", "would you rather be a {animal} or a {bird}",
    ),
    "sport": (
        "who won the {sport} final {time}", "explain the rules of {sport}", "how many players has a {sport} team",
        "when is the next {sport} match in {town}", "what shoes are good for {sport}",
        "how do i get better at {sport}", "who is the best at {sport} in {city}", "how long is a game of {sport}",
    ),
    "films": (
        "which film has a {animal} that talks", "recommend a {mood} film for {time}",
        "who plays the {job} in that {mood} film",
        "is there a {mood} series about a {job}", "how does the film with the {animal} end",
        "what was the {mood} film with the {job} called", "when was the first {mood} film about {art} made",
    ),
    "books": (
        "recommend a {mood} novel about a {job}", "who wrote the story of the {animal} and the {bird}",
        "summarise a {mood} book about {hobby}", "how many chapters has that {mood} book on {art}",
        "which poem has a {bird} in it", "read me a {mood} story about a {animal}", "what rhymes with {animal}",
    ),
    "garden": (
        "when do i plant {plant}", "how often do {plant} need water", "why are the leaves of my {plant} yellow",
        "can {plant} grow beside {other_plant}", "how do i keep snails off the {plant}",
        "how deep do the roots of {plant} go", "do {plant} like shade", "when do i cut back {plant}",
    ),
    "animals": (
        "how long does a {animal} live", "what does a {animal} eat", "can a {bird} fly across the sea",
        "how fast does a {animal} run", "my {animal} sneezes a lot, is that normal", "where do {bird}s sleep",
        "what sound does a {bird} make", "how many young has a {animal}", "are {animal}s afraid of {bird}s",
    ),
    "stars": (
        "how far away is {planet}", "how many moons has {planet}", "can i see {planet} from {town} {time}",
        "how long is a day on {planet}", "what is {planet} made of", "why does {planet} shine",
        "who first saw {planet} through a telescope", "how heavy would a {animal} be on {planet}",
    ),
    "exercise": (
        "give me a {short} workout for the {body}", "how do i stretch the {body}", "my {body} hurts after {sport}",
        "is {sport} good for the {body}", "how many push-ups are good for the {body}",
        "what do i eat before {sport}", "a {short} routine for a stiff {body}", "how do i warm up for {sport}",
    ),
    "words": (
        "how do you say {animal} in {language}", "what does {odd_word} mean", "spell {odd_word}",
        "translate good morning into {language}", "is {odd_word} a noun or a verb", "use {odd_word} in a sentence",
        "where does the word {odd_word} come from", "how do you count to ten in {language}",
        "what is the {language} word for {plant}",
    ),
    "clock": (
        "wake me at {hour}", "set a timer of {figure} minutes for the {food}", "remind me of {task} at {hour}",
        "what time is it in {city}", "how many days until {feast}", "stop the alarm at {hour}",
        "put {task} into my calendar for {hour}", "which day of the week is {feast}",
    ),
    "house": (
        "turn off the lights in the {room}", "make it warmer in the {room}", "close the blinds of the {room} at {hour}",
        "is the window in the {room} open", "start the vacuum in the {room}", "dim the {room} to {figure} per cent",
        "how do i get a stain of {spice} out of the carpet in the {room}", "what colour suits a small {room}",
    ),
    "cars": (
        "how do i change a tyre on the way to {town}", "what does the yellow lamp by the speedometer mean",
        "how often does a car need new oil", "why does my engine rattle in the {part_of_day}",
        "how much air goes into the tyres for a trip to {city}", "my wipers squeak when it rains in {town}",
        "how do i park beside a {animal}", "which road to {town} is empty {time}",
    ),
    "history": (
        "who ruled {city} in {year}", "what happened in {town} in {year}", "why did the war of {year} begin",
        "how did people in {year} keep {food}", "what did a {job} do in {year}", "who built the walls of {town}",
        "what did people in {city} wear in {year}", "when was the {instrument} invented",
    ),
    "games": (
        "let us play a word game about {animal}s", "give me a riddle with a {animal}",
        "how does the knight move in chess",
        "roll two dice for {sport} night", "ask me a quiz question about {art}", "what beats a full house of {plant}",
        "tell me a joke about a {job} and a {animal}", "i spy something in the {room}",
        "give me a hint about {odd_word}",
    ),
    "crafts": (
        "how do i knit a {garment}", "what paint sticks to {material}", "how do i fold a {bird} from paper",
        "which glue holds {material}", "draw me a pattern for a {garment}", "how do i carve a {animal} from {material}",
        "how thick is {material} for a model of {city}", "what needle do i take for a {garment}",
    ),
    "school": (
        "explain {subject} to a child", "help me write an essay on {subject}", "what is the hardest part of {subject}",
        "give me three questions on {subject} for a test", "why do we learn {subject}",
        "which famous {job} knew {subject}", "how do i study {subject} by {feast}", "summarise {subject} in one line",
    ),
}  # fmt: skip

SLOTS: Final = {
    "town": ("bergen", "lisbon", "ghent", "salzburg", "kyoto", "bath", "turku", "granada", "split", "perth", "graz",
             "siena", "galway", "tartu"),
    "city": ("rome", "vienna", "oslo", "cairo", "lima", "boston", "hanoi", "athens", "madrid", "seoul"),
    "time": ("today", "tomorrow", "this weekend", "on sunday", "tonight", "next week", "in april", "this evening"),
    "genre": ("jazz", "rock", "folk", "baroque", "reggae", "techno", "soul", "blues", "choral", "country"),
    "instrument": ("guitar", "violin", "ukulele", "cello", "banjo", "piano", "harp"),
    "task": ("cooking", "running", "doing homework", "ironing", "reading", "cleaning", "painting", "gardening"),
    "art": ("sculpture", "glass", "old maps", "modern painting", "photography", "architecture"),
    "food": ("lentils", "salmon", "potatoes", "rice", "mushrooms", "dumplings", "spinach", "beans", "bread", "pumpkin"),
    "other_food": ("carrots", "eggs", "leeks", "noodles", "cabbage", "tomatoes"),
    "spice": ("cumin", "saffron", "basil", "mustard", "ginger", "turmeric", "thyme"),
    "figure": ("12", "17", "23", "36", "45", "58", "64", "81", "97", "144"),
    "other_figure": ("9", "11", "250", "312", "480", "1024", "19", "77"),
    "part_of_day": ("morning", "afternoon", "evening", "night", "day"),
    "hobby": ("fishing", "chess", "birdwatching", "poetry", "baking", "sailing", "pottery", "hiking"),
    "animal": ("fox", "hedgehog", "cat", "horse", "turtle", "dolphin", "rabbit", "camel", "bear", "badger"),
    "bird": ("heron", "sparrow", "owl", "swan", "crow", "parrot", "stork"),
    "sport": ("football", "tennis", "rowing", "volleyball", "fencing", "swimming", "hockey", "cricket", "climbing"),
    "mood": ("funny", "sad", "scary", "gentle", "short", "strange", "romantic", "quiet"),
    "job": ("painter", "doctor", "sailor", "baker", "farmer", "teacher", "detective", "shepherd"),
    "plant": ("tomatoes", "roses", "tulips", "carrots", "lavender", "cucumbers", "sunflowers", "beans"),
    "other_plant": ("onions", "mint", "peas", "lilies", "strawberries"),
    "planet": ("mars", "venus", "saturn", "jupiter", "neptune", "mercury", "the moon", "uranus"),
    "short": ("ten-minute", "short", "gentle", "hard", "morning"),
    "body": ("back", "knees", "shoulders", "legs", "neck", "hips"),
    "language": ("finnish", "spanish", "japanese", "welsh", "latin", "greek", "polish", "swahili"),
    "odd_word": ("serendipity", "gossamer", "petrichor", "bumblebee", "rhubarb", "quixotic", "labyrinth", "umbrage"),
    "hour": ("six", "half past seven", "noon", "a quarter to nine", "ten", "five in the morning"),
    "feast": ("easter", "midsummer", "new year", "my birthday", "the holidays"),
    "room": ("kitchen", "bedroom", "hall", "cellar", "attic", "bathroom", "nursery"),
    "year": ("1066", "1492", "1648", "1789", "1848", "1914", "1350"),
    "garment": ("scarf", "jumper", "pair of mittens", "shawl", "cap"),
    "material": ("oak", "cardboard", "clay", "felt", "bamboo", "plaster", "cork"),
    "subject": ("photosynthesis", "fractions", "the water cycle", "gravity", "grammar", "volcanoes", "magnetism",
                "the food chain", "perspective"),
}  # fmt: skip

CLOSINGS: Final = (
    "thanks", "please", "if you can", "just wondering", "i am curious", "no rush", "my daughter asks",
    "in one sentence", "i never knew", "for a friend", "thank you", "be brief", "you always know such things",
    "it is for fun",
)  # fmt: skip
