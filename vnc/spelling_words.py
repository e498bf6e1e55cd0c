"""The words that vnc/spelling.py asks about: common English words of all lengths, many with repeated letters."""

_TEXT = """
apple apricot banana blueberry blackberry raspberry strawberry cranberry gooseberry cherry coconut grape grapefruit
lemon mango melon nectarine orange papaya peach pear pineapple plum pomegranate raisin watermelon almond walnut peanut
artichoke asparagus avocado bean beetroot broccoli cabbage carrot cauliflower celery cucumber eggplant garlic ginger
leek lentil lettuce mushroom olive onion parsley pea pepper potato pumpkin radish spinach tomato turnip zucchini
bread butter cheese chocolate cinnamon coffee cookie cream dessert dinner flour honey juice breakfast lunch supper milk
mustard noodle oatmeal omelette pancake pasta pastry pizza pudding rice salad salmon sandwich sauce sausage soup
spaghetti sugar syrup vanilla vinegar yogurt
alligator antelope armadillo badger beaver beetle buffalo butterfly camel caterpillar cheetah chicken chimpanzee
cricket crocodile dolphin donkey dragonfly eagle elephant falcon ferret flamingo gazelle giraffe goose gorilla
grasshopper hamster hedgehog hippopotamus hummingbird jellyfish kangaroo kitten ladybug leopard lizard lobster
mosquito octopus opossum ostrich otter parrot peacock pelican penguin pigeon puppy rabbit raccoon reindeer rhinoceros
rooster scorpion seagull sheep shrimp sparrow spider squirrel swallow tiger turkey turtle walrus weasel woodpecker
zebra
ankle beard bone brain cheek chest elbow eyebrow eyelash finger forehead hair heart kidney knee muscle shoulder skeleton
skin skull stomach throat thumb tongue tooth wrist
aunt brother cousin daughter father grandfather grandmother husband mother neighbor nephew niece parent sister stepson
uncle wife
accountant actor architect artist astronaut author baker barber butcher captain carpenter chemist cleaner composer
dancer dentist detective director doctor editor electrician engineer farmer firefighter fisherman gardener hairdresser
inspector inventor journalist judge lawyer librarian lifeguard magician mechanic messenger musician nurse officer
painter pharmacist photographer physicist pilot plumber policeman postman professor sailor scientist secretary
shoemaker singer soldier surgeon tailor teacher translator umpire veterinarian waiter writer
attic balcony basement bathroom bathtub battery bedroom blanket bookshelf bottle bucket candle carpet ceiling chair
chimney closet corridor couch cupboard curtain cushion dishwasher door drawer faucet fireplace furniture garage hallway
hammer jewel keyboard kitchen ladder lamp mattress mirror needle oven pillow pocket refrigerator scissors screwdriver
shelf shower spoon staircase stool suitcase table teapot telephone television thermometer toaster toothbrush towel
typewriter umbrella vacuum wallet wardrobe window
airplane airport ambulance anchor bicycle boat brake bridge bus canoe carriage compass crossing engine ferry harbor
helicopter highway journey locomotive luggage motorcycle parachute passenger passport railway rocket rudder sailboat
scooter steamship submarine subway taxi tire tractor traffic train tunnel vehicle vessel wagon wheel yacht
avalanche beach blizzard breeze canyon cave climate cliff cloud coast continent creek desert drizzle earthquake forest
fossil glacier grass hill horizon hurricane iceberg island jungle lagoon lake lightning meadow moon mountain mud ocean
peninsula planet pebble pond rainbow river sand sea season shadow sky snowflake star stream summit sunrise sunset
sunshine swamp thunder tide tornado valley volcano waterfall weather wilderness wind
autumn spring summer winter january february april august september october november december monday tuesday wednesday
thursday friday saturday sunday century decade calendar midnight morning noon afternoon evening tomorrow yesterday
algebra alphabet angle arithmetic atom biology calculus chapter chemistry circle classroom cylinder decimal dictionary
diagram education equation examination experiment formula fraction geography geometry grammar graph history hypothesis
knowledge laboratory language lecture lesson library literature mathematics measurement microscope molecule multiple
number oxygen parallel paragraph percentage philosophy physics poem problem pronunciation pyramid question rectangle
science sentence square statistics syllable telescope theory triangle vocabulary
accordion ballet band banjo cello choir clarinet concert drum fiddle flute guitar harmonica harmony melody opera
orchestra piano rhythm saxophone song symphony tambourine trombone trumpet violin whistle xylophone
archery badminton baseball basketball bowling boxing cycling football gymnastics hockey marathon racket referee rugby
skiing soccer stadium swimming tennis trophy volleyball wrestling
ability accident achievement address adventure advertisement agreement ambition anniversary announcement apartment
apology appearance appointment argument assignment assistance attention audience balance beginning behavior benefit
business camera ceremony challenge character citizen collection committee communication community comparison
competition conclusion condition confidence connection conscience consequence conversation courage curiosity
decision democracy department description development difference difficulty disappointment disaster discovery
discussion disease distance economy effort election electricity emergency emotion employee encouragement entrance
environment equipment evidence excellence exception exercise existence expense experience explanation expression
failure familiarity festival foreigner freedom friendship future generation government guarantee happiness harassment
honesty hospital imagination immigrant importance impression improvement independence industry information
intelligence interest interruption interview introduction invitation jealousy justice kindness leadership legend
loneliness majority management marriage medicine membership memory millennium miniature mischief misspelling mistake
moment mystery necessity neighborhood newspaper noise obedience occasion occurrence opinion opportunity opposition
orchard organization pattern patience performance permission personality pleasure politics population possession
possibility preference preparation pressure principle privilege procedure profession progress promise property
punishment purpose quality quantity questionnaire reason recommendation relationship religion republic research
responsibility restaurant revolution safety satisfaction schedule secret security settlement silence situation society
solution strength success suggestion surprise symbol system technology temperature territory tradition transportation
treasure truth understanding universe vacation victory village violence visitor weakness wisdom
accept accomplish achieve add admire advise afford agree allow announce annoy answer apologize appear applaud approve
argue arrange arrive assemble assess attach attend balloon bargain become begin believe belong borrow breathe bring
build calculate cancel carry celebrate choose climb collect compare complain connect consider continue cooperate
correct cough count cross decide decorate deliver depend describe destroy develop disagree disappear discover discuss
divide dream drive earn embarrass employ encourage enjoy escape examine exaggerate excuse exist expect explain express
fasten finish follow forget forgive gather giggle glitter guess happen hesitate hurry imagine improve include increase
inform insist introduce invent invite jump knit knock laugh learn listen manage mention miss multiply murmur need
notice occur offer organize paddle perform permit persuade possess practice prefer prepare pretend prevent produce
protect pronounce provide quarrel realize receive recognize recommend refuse remember remind repeat replace request
rescue respect return reveal scatter scream search seem separate shiver shout sleep slippery smell smile sneeze solve
speak spread squeeze stammer subtract succeed suffer suggest support suppose swallowing teach think throw travel
tremble trust unwrap wander warn waste weigh whisper wonder worry wrap yawn
absolute accidental accurate afraid ancient angry anxious asleep attractive average awkward beautiful bitter brilliant
careful cheerful clever colorful comfortable common complicated convenient crooked curious dangerous delicious
different difficult eager elegant embarrassed empty enormous essential excellent expensive familiar famous fierce
foolish fragile friendly funny generous gentle grateful guilty happy harmless healthy heavy helpful honest hungry
ignorant illegal immediate impossible innocent invisible jealous lazy lonely lucky marvelous mysterious narrow natural
necessary nervous obvious official ordinary patient peaceful perfect pleasant polite popular possible precious private
probable proud purple quick quiet rare ready reasonable regular responsible ridiculous rough rude serious sharp shiny
silly similar simple sincere slow smooth special splendid stubborn successful sudden suspicious sweet terrible terrific
thirsty tiny tired ugly unnecessary useful useless valuable violet warm weird wonderful yellow young
"""
WORDS = tuple(_TEXT.split())
