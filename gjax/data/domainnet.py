"""What is published of DomainNet: archives, lists and classes.

The addresses are those of the cleaned version at http://ai.bu.edu/M3SDA/. The MD5 sums are those that the repository
datasets-mila/datasets--domainnet recorded of the files at these addresses (`md5sums` at 700e6b6); other projects that check
their downloads give the same.
"""

from gjax.data.downloads import File

_URL = 'http://csr.bu.edu/ftp/visda/2019/multi-source'
# By domain: the archive, and the MD5 sums of the archive and of the lists of training and test images.
_PUBLISHED = {
    'clipart': (
        'groundtruth/clipart.zip',
        'cd0d8f2d77a4e181449b78ed62bccf1e',
        'b4349693a7f9c05c53955725c47ed6cb',
        'f5ddbcfd657a3acf9d0f7da10db22565',
    ),
    'infograph': (
        'infograph.zip',
        '720380b86f9e6ab4805bb38b6bd135f8',
        '379b50054f4ac2018dca4f89421b92d9',
        '779626b50869edffe8ea6941c3755c71',
    ),
    'painting': (
        'groundtruth/painting.zip',
        '1ae32cdb4f98fe7ab5eb0a351768abfd',
        '7db0e7ca73ad9982f6e1f7f3ef372c0a',
        '232b35dc53f26d414686ae579e38d9b5',
    ),
    'quickdraw': (
        'quickdraw.zip',
        'bdc1b6f09f277da1a263389efe0c7a66',
        'b732ced3939ac8efdd8c0a889dca56cc',
        'c1a828fdfe216fb109f1c0083a252c6f',
    ),
    'real': (
        'real.zip',
        'dcc47055e8935767784b7162e7c7cca6',
        '8ebf02c2075fadd564705f0dc7cd6291',
        '6098816791c3ebed543c71ffa11b9054',
    ),
    'sketch': (
        'sketch.zip',
        '658d8009644040ff7ce30bb2e820850f',
        '1233bd18aa9a8a200bf4cecf1c34ef3e',
        'd8a222e4672cfd585298aa14d02ea441',
    ),
}
ARCHIVES = {domain: File(f'{domain}.zip', f'{_URL}/{path}', md5) for domain, (path, md5, *_) in _PUBLISHED.items()}
LISTS = {
    domain: {
        split: File(f'{domain}_{split}.txt', f'{_URL}/domainnet/txt/{domain}_{split}.txt', md5)
        for split, md5 in zip(('train', 'test'), sums, strict=True)
    }
    for domain, (_, _, *sums) in _PUBLISHED.items()
}
# In the order of the labels in the lists.
_NAMES = """
aircraft_carrier airplane alarm_clock ambulance angel animal_migration ant anvil apple arm asparagus axe backpack
banana bandage barn baseball baseball_bat basket basketball bat bathtub beach bear beard bed bee belt bench bicycle
binoculars bird birthday_cake blackberry blueberry book boomerang bottlecap bowtie bracelet brain bread bridge
broccoli broom bucket bulldozer bus bush butterfly cactus cake calculator calendar camel camera camouflage campfire
candle cannon canoe car carrot castle cat ceiling_fan cello cell_phone chair chandelier church circle clarinet clock
cloud coffee_cup compass computer cookie cooler couch cow crab crayon crocodile crown cruise_ship cup diamond
dishwasher diving_board dog dolphin donut door dragon dresser drill drums duck dumbbell ear elbow elephant envelope
eraser eye eyeglasses face fan feather fence finger fire_hydrant fireplace firetruck fish flamingo flashlight
flip_flops floor_lamp flower flying_saucer foot fork frog frying_pan garden garden_hose giraffe goatee golf_club
grapes grass guitar hamburger hammer hand harp hat headphones hedgehog helicopter helmet hexagon hockey_puck
hockey_stick horse hospital hot_air_balloon hot_dog hot_tub hourglass house house_plant hurricane ice_cream jacket
jail kangaroo key keyboard knee knife ladder lantern laptop leaf leg light_bulb lighter lighthouse lightning line lion
lipstick lobster lollipop mailbox map marker matches megaphone mermaid microphone microwave monkey moon mosquito
motorbike mountain mouse moustache mouth mug mushroom nail necklace nose ocean octagon octopus onion oven owl
paintbrush paint_can palm_tree panda pants paper_clip parachute parrot passport peanut pear peas pencil penguin piano
pickup_truck picture_frame pig pillow pineapple pizza pliers police_car pond pool popsicle postcard potato
power_outlet purse rabbit raccoon radio rain rainbow rake remote_control rhinoceros rifle river roller_coaster
rollerskates sailboat sandwich saw saxophone school_bus scissors scorpion screwdriver sea_turtle see_saw shark sheep
shoe shorts shovel sink skateboard skull skyscraper sleeping_bag smiley_face snail snake snorkel snowflake snowman
soccer_ball sock speedboat spider spoon spreadsheet square squiggle squirrel stairs star steak stereo stethoscope
stitches stop_sign stove strawberry streetlight string_bean submarine suitcase sun swan sweater swing_set sword
syringe table teapot teddy-bear telephone television tennis_racquet tent The_Eiffel_Tower The_Great_Wall_of_China
The_Mona_Lisa tiger toaster toe toilet tooth toothbrush toothpaste tornado tractor traffic_light train tree triangle
trombone truck trumpet t-shirt umbrella underwear van vase violin washing_machine watermelon waterslide whale wheel
windmill wine_bottle wine_glass wristwatch yoga zebra zigzag
"""
CLASSES = tuple(_NAMES.split())
