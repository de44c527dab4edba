"""The sprite artist: draws labelled 16x16 sprites from a seed, without a download.

A sprite is composed like a paper doll: an archetype ("knight", "cheese") names a stack
of slots, a slot names interchangeable parts, and chance picks one part for every slot.
The parts are drawn below as ASCII art, side by side, as on a real sprite sheet.

    .  empty     #  dark, as the outline     w  shine     ~  rubs out what lies below
    123  456  789  abc  def     light, base and shade of the materials A, B, C, S, H

A recipe chooses for every material a pool of colour ramps. What the sheets leave out is
added to all alike: a one-pixel outline, the shaded right-hand edges, the flip, and the
position. Everything is integer arithmetic on the raw stream of PCG64, which NumPy keeps
stable, so a seed gives the same bytes everywhere.
"""

import numbers
import re
from functools import cache
from typing import NamedTuple

import numpy as np

SPRITE_CLASSES = ("hero", "non-hero", "food", "spell", "side-facing")
SIZE = 16
LEGEND = ".#w123456789abcdef~"  # a character's place is its role in the canvas
EMPTY, DARK, SHINE, FIRST, RUB_OUT = 0, 1, 2, 3, 18

# Light, base, shade. Neighbours look alike: materials of one sprite avoid neighbours.
RAMPS = """
crimson  f06882 be2654 76164a   red      ff8870 e23c3e 961e42
orange   ffc062 f27e2c b4442c   gold     ffee88 f6ba34 ba6a28
lemon    fffcb0 f8e052 ce9a30   lime     daf676 8ed03e 448e44
green    8ce278 36a452 1a6458   teal     80eecc 24aca0 1a687e
sky      b4eeff 58b8f2 3872c8   blue     7caeff 3c68e0 2e3498
indigo   948af2 584aba 362a7a   violet   da9efc 9c56d6 5e2e96
magenta  ff9ae4 de4aac 8c2682   pink     ffd2da fa98b4 c8588e
umber    a86e54 7a4a3e 4e2a34   brown    c48656 90583a 5a3234
russet   e6ac7c bc7852 844840   tan      f8dca8 deac70 a66e4e
peach    ffe6ca f8c29c d08872   bone     f4f0e2 e0d4bc aa988e
steel    e2ecf4 9eaec4 606a8c   charcoal 808096 504e66 322e46
"""
RAMPS = {
    name: [tuple(bytes.fromhex(tone)) for tone in tones.split()]
    for name, tones in re.findall(r"(\w+) +(\w+ \w+ \w+)", RAMPS)
}
HUES = tuple(RAMPS)[:14]
POOLS = {
    "any": HUES,
    "magic": (*HUES, "steel", "charcoal", "bone", "peach"),
    "cloth": (*HUES, "brown", "bone", "charcoal", "steel", "russet", "tan", "umber"),
    "fur": "brown russet tan charcoal steel bone umber orange".split(),
    "gob": "lime green teal violet red sky russet umber peach".split(),
    "fruit": "red crimson lime gold orange violet green pink magenta indigo".split(),
    "hair": "brown umber gold orange charcoal bone crimson".split(),
    "metal": "steel steel gold russet charcoal".split(),
    "ice": "sky sky blue teal steel violet".split(),
    "glow": "gold lemon orange pink lime sky".split(),
    "skin": "peach peach tan russet umber".split(),
    "steel": "steel steel bone".split(),
    "stone": "steel charcoal umber brown".split(),
    "wood": "brown umber russet".split(),
    "warm": "red crimson orange".split(),
    "bread": "tan russet tan brown".split(),
    "pale": "bone peach steel tan".split(),
    "gold": "gold gold lemon".split(),
    "leaf": "green lime teal".split(),
}
SLOTS = {  # slots that many recipes share
    "caped": "-|cape",
    "leaves": "-|leafr>7,0|leafl>3,0",
    "lt": "-|spark>0,0|spark>1,2",
    "rt": "-|spark>11,0|spark>10,2",
    "lb": "-|spark>0,11|spark>1,9",
    "rb": "-|spark>11,11|spark>10,9",
}

# (side, top, art): where a sheet's parts lie on the 14x14 area inside the
# outline. A "half" is mirrored; "left" and "right" are held at that edge; "full" is
# drawn out; "small" goes where the recipe says. Parts lie below their names.
SHEETS = (
    (
        "half",
        0,
        """
dwarfb beardy gob     skullhd oneeye mummy pumpkin vamp    devil  locks long  hood
...... ...... ....... ....... ...... ..... ......e ....... 7..... ..... ..... .....
...... ...... ....... ....111 ...aab ..111 ....7.f ....dee 78.... ..... ..ddd ..111
...... ...... ....aab ...1122 ..aabb .1122 ..77878 ...deee 78.aab ..... .dddd .1112
...... ...... ...aabb ...1222 ..abbb .2333 .788788 ...eeee .8aabb ..... ddeee 11222
..abbb ..abbb ab.abbb ...1222 ..bbww .1122 .78#788 ...ebbe ..abbb deeee deeff 122##
..bb#b ..bb#b .bbb7#b ...2##2 ..bbw# .##7# .7##888 ...bbbb ..b7bb de... de... 12...
..eebb ..eb#b ..cb##b ...2##2 ..bbw# .3333 .788888 ...bb#b ..b#7b ee... ee... 22...
.eeeee ..eeff ...bbbb ....22# ..bbbb .1122 .8#8#8# ...bbbb ..bbbb ee... ee... 22...
.eeeff ...eef ....c#w ....2#2 ...b## ..223 ..8#### 2...bw# ...b## ef... ef... .2...

bandit cowl face elf     bald knight open spiky viking  kabuto short mitre pirate beret
...... .... .... ....... .... ...... .... .d..d 7...... 7..... ..... ....1 ...... ......
...111 .111 .... ....... .aab ...444 .444 dddde 77..... 77..44 ..ddd ..118 ...111 .11111
..1112 1112 .... ....... abbb ..4445 4445 .deee 784.444 .78445 .dddd ..188 .1122w 111222
..1222 1222 .... ....... abbb ..4555 4555 deeee .884445 .44885 .deee ..128 11222w 222222
..5555 25bb abbb ...abbb bbbb ..5555 6666 .eeff ...4555 444555 .eeff .1222 222222 .33333
..ab#b 2... bb#b ab.bb#b bb#b ..5### 5... ee... ...6868 55.... .e... .8888 .33333 ..e...
..3222 2... bb#b .bbbb#b bb#b ..5556 5... .f... ...6... 56.... ..... ..... ...... ......
..2222 2... .bbc ..c.bbc .bbc ...556 6... ..... ....... ...... ..... ..... ...... ......
...223 .222 .... ....... .... ...... .... ..... ....... ...... ..... ..... ...... ......

robin  straw  crest wizard patch crown tiara band horns
...... ...... ....1 .....1 ..... .7..7 ..... .... 7.....
...111 ...777 ...11 .....1 ..... .7777 ....7 .... 78....
..1112 ..7788 ...12 ....12 ..... .8588 ..7.8 .... .88...
.11222 ..5555 ...22 ...555 ..... .9999 .8885 7777 ..9...
122222 777888 ....3 112222 .#### ..... ..... .... ......
..e333 .99999 ..... ...... ..... ..... ..... .... ......
""",
    ),
    (
        "half",
        8,
        """
tunic armour robe  dress  bare  gi    bones wrap   coat  fur
..122 .44422 ..125 ...b22 .aabb ..12b ...#2 ...112 2.1w5 44444
11222 445522 11225 ..b122 abbbb 11225 21122 111233 11255 45544
22222 .56522 12225 .b.555 bbbcb 22252 2.#2# 333122 22255 b3212
b5555 .b6588 b2225 ..1222 b5555 b5555 2.122 ...233 b2255 b5555
.1222 ...556 .1225 .11222 .4555 .1222 ..333 ...112 2266. .1222
..66. ..455. 12235 112233 ..bb. ..bb. ..22. ...33. 2566. ..66.
""",
    ),
    (
        "half",
        6,
        """
cape   collar  wings   wingsb
...... ....... ....... 6......
...... ....... 5...... 56.....
..1122 22..... 55.5... 556.555
.11222 .222222 5555555 5556555
.12222 ..12222 .665555 5.55665
.12222 ..12222 ..6.665 ...5...
.12222 ..12222 ....6.6 .......
122233 .112233 ....... .......
""",
    ),
    (
        "left",
        0,
        """
staff spear pstaff pbow  pspear axe katana lute club cross pshield sword bow dagger mace
.7... .7... .7.... ..... .7.... ... 7..... .... .... .8... ....... ..... ... ...... ....
788.. .7... 788... ..e.. .7.... ... 7..... .... .... 888.. ....... .7... ..e ...... ....
.9... .8... .9.... .e.7. .8.... 77e 7..... e... .... .8... ....... .7... .ee ...... 7.7.
.e... 5e5.. .e.... .e.7. 5e5... 778 78.... .e.. .de. .e... ....... 78... .e. ...... .88.
.e... .e... .e.... e..7. .e.... 778 .8.... .e.. dee. .e... ....... 78... ee. ...... 788.
.e... .e... .e.... e..7. .e.... 88e .8.... .e.. dee. .e... ....... 78... e.. .7.... 7.9.
.e... .e... .e.... e..7. .e.... .9e .8.... .7.. dee. .e... ....... 78... e.. .8.... .e..
.e... .e... .e.... e..7. .e.... ..e .8.... .7.. .ee. .e... ..44... 78... e.. .8.... .e..
.e... .e... .e.... e..7. .e.... ..e .8.... 788. .ef. .e... .4455.. 78... ee. .8.... .e..
.e... .e... .e.... e888b .e.... ..e 555... 788. .e.. .e... .4885.. 555.. .e. 555... .e..
.e... .e... .eb... e..7. .eb... ..e .e.... 7#8. .e.. .e... .4885.. .e... .ee .e.... .e..
.e... .e... .e.... .e.7. .e.... ..e .e.... 788. .e.. .e... .4555.. .6... ..e .f.... .f..
.e... .e... .e.... .e.7. .e.... ..e .f.... .9.. .f.. .f... ..56... ..... ... ...... ....
.f... .f... .f.... ..e.. .f.... ... ...... .... .... ..... ....... ..... ... ...... ....

psword
......
.7....
.7....
78....
78....
78....
78....
78....
78....
555...
.eb...
.6....
""",
    ),
    (
        "right",
        7,
        """
round  kite  buckl tome orbl
.45... 44555 ..... .... ....
4555.. 48885 ..... .... ..7.
45885. 45855 .45.. 4454 .778
558855 45855 4585. 5ww5 .788
.5556. .556. 5556. 5ww5 ..9.
..66.. ..6.. .66.. 6666 ....
""",
    ),
    (
        "half",
        0,
        """
slime  kslime  ghost   spider  eyeball shroom  golem   dragon  mimic  treant  octopus
...... ....... ....... ....... ....... ....... ....... ..7.... ...... ...11.. .......
...... ....... ....111 ....... ....111 ....111 ...1112 ..78... ...... ..1111. ....111
...... ....... ...1112 ....... ..11122 ..11112 ...1222 ...8111 .44111 .112111 ...1112
.....1 ....... ..11122 .##.... .111222 .114412 ...2872 ...1112 411122 1122111 ..11122
....11 ....... ..11222 #..#.11 .112444 1124422 ...2222 44.1222 412222 1222122 ..1w122
...112 ....111 ..12#22 #..#112 1124445 1222225 1112333 4541#72 533333 2332222 ..12222
..1122 ..11122 ..12#22 .#.1112 1224488 2222255 1222112 4541122 #w#w#w ..33e33 ..12#22
.11222 .111222 .122222 #.#1172 122448# 3333333 1222122 455.222 ##7### ...deee ..12#22
.1w#22 .11#122 .12222# #..1172 122448# ...aabb 2233122 5..12#2 ##7#aa ...d#ee ..12222
11w#22 112#222 1122222 .##1222 1225588 ...ab#b 122.255 ...3w3w #w#waa ...d7#e .112222
122222 1222222 .122222 #...22w .222555 ...bb#b 122.222 ..11244 4112aa .d.deee 1222222
122#22 1222#22 .222223 #.##.22 .222222 ..bbbbb 233.333 ..12255 4122ab ..ddee# 122.222
1222## 22222## .22.223 .#..... ..23333 ...bbbc ...1223 ..12244 512223 ...deee 22..22.
.23333 .233333 .3...3. .#..... ....333 ...cc.. ..1223. .11233. 533333 ..de.ef .2.22..

plant   robot  apple   pear   berry   cupcake donut   icecone pizza   burger  soup
....... .....7 ......e ...... ....... ......8 ....... ....... ....... ....... .......
..11112 .....8 ......e .....e ...4..4 .....78 ....... ....111 .455555 ....... .......
.112211 ..1112 ..111.e ....1e ..44454 ......9 ....111 ...1112 4555555 ...4444 .......
.122112 .11222 .11111f ....12 .455555 ....111 ..11112 ..11122 5666666 .444474 .......
11222ww .1#### 1w11122 ...112 .116162 ...1112 .111222 ..11222 1111111 .447444 .......
122w### .1#7## 1w11122 ...112 1122222 ..11222 .111222 ..12222 .111188 4444455 ...1112
22w##aa .2#### 1111222 ..1112 1172227 ..12222 11122## ..12222 .111189 4555555 .114112
223waaa .23222 1112222 .11122 1222722 .112223 1122#.. .222223 ..81199 1212121 4122521
.2223ww ....33 1122222 1w1122 .222222 .122222 1122#.. .323323 ..88112 .311312 4555555
..22222 .41122 1222222 1w1222 .227227 .233333 122222# ..44545 ...9112 8888888 5444555
.....56 452188 .222222 112222 .222222 ..44545 1222222 ...5454 ...1188 eeeeeee .555555
44..556 5.2222 .222223 122222 ..22272 ..45545 4422244 ...4545 ....189 .f.ff.f .555556
.5555.5 6.2333 ..22233 .22222 ...2222 ..45545 .545545 ....545 ....122 .555555 ..55566
..666.5 ..56.. ...33.. ..2333 ....223 ...5656 ..66666 .....56 .....12 ..66666 ...6666

star    potion heart   sun     ring   rune   skull  gem     bat
....... ...... ....... ......7 ....11 ...... ...... ....... .......
......1 ....ee ....... .7....7 ...1w1 ...444 ...111 ....... .......
......1 ....ef ..111.. .77.... ...122 .44445 .11112 ...1111 4......
.....11 ...4.4 .11111. ..7.111 ....23 444551 111222 ..11122 44..1..
.....12 ....45 1ww1112 ...1112 ..4444 455515 112222 .111122 454.12.
1111112 ....45 1w11122 ..11122 .445.. 455155 1##222 1111222 4551122
.111122 ...4.5 1111222 ..11222 445... 455155 1##22# 2222111 45512#2
..11222 ..4..5 1112222 7711#22 45.... 455515 22222# .222122 5551222
...1222 .411w2 .112222 ..12#22 45.... 455551 .2222# ..32212 5.522#w
...1222 411112 ..12222 ..12222 45.... 455515 ..2222 ...3221 6.6.222
..11222 411222 ...2222 ...2#22 455... 455155 ..2#2# ....322 ..6..22
..12233 512222 ....223 .7.22## .455.. 555555 ..2#2# .....32 ......2
.1233.. 552223 .....23 77..233 ..5555 .55566 ..3333 ......3 .......
.33.... ..5555 ......3 ......7 ...666 ..6666 ...... ....... .......
""",
    ),
    (
        "full",
        0,
        """
cherry        banana         cheese       drumstick     grapes        orb
.......e..... ...........ee. ............ ............. ......ee..... .....1111....
......ee..... ...........ee. ............ ........1111. ....44e444... ...11111222..
.....e.e..4.. ..........112. .........111 ......1111222 .112112112112 ..1ww1112222.
.....e.e.45.. ..........1122 .......11112 .....1w111222 .1w21w21w21w2 ..1w111122223
....e..e455.. .........11122 .....1111122 .....11112222 .223223223223 .111111222222
....e...e.... .........11122 ...111112222 ....111122223 ..#112112112. .111112222223
...e....e.... ........111222 .11112222222 ....112222223 ...1w21w21w2. .111122222223
.1112...e.... .......1111222 .22222222222 ....12222233. ...223223223. .112222222223
1w1122..111.. ......11112223 .23322222332 ....2222233.. ....#112112.. .122222222233
1112221w1122. e...1111122223 .32222332232 ...452233.... .....1w21w2.. ..2222222233.
1122221112222 ee111111222233 .22222332222 ..445........ .....223223.. ...22222333..
.22222112222. .f11122222233. .23222222222 445.......... ......#112... ...455555556.
..333..222233 ..3322222333.. .22223222333 455.......... .......1w2... ..44555555566
........333.. ....33333..... .33333333333 .55.......... .......223... ..56666666666

flame         bolt         scroll        book          moon         bomb
......1...... .......11111 .11111111111. ............. .....1111... ..........7.
......11..... ......11112. 1222222222222 .1111111111.. ...11111.... ........ee.7
.....111..... .....11112.. 1233222222223 .11111111122. ..11122..... .......e..7.
.....1112..1. ....11112... .23aaaaaaaa.. .1122442222a. .11122...... ......44....
..1.11122.11. ...111122... ..abbbbbbbb.. .11244442223a .1112....... .....4455...
..11112221112 ..11111112.. ..ab#b##bbb.. .12445544223a 111w2....... ...111122...
..11112222122 .112222222.. ..abbbbbbbb.. .12445544223a 1112........ ..11111222..
.111222442222 ....1112.... ..ab##b#bbb.. .12244442223a 1122........ .11w1112222.
.112224442222 ....1122.... ..abbbbbbbb.. .12224422223a 1122.......1 .1ww1122222.
.122244442223 ...1122..... ..ab#b44bbb.. .12222222223a 1122.....112 .1111222222.
.12224477443. ...122...... ..abbb45bbbb. .12222222223a .1222..11122 .1112222223.
.22244777443. ..122....... .11111111bbbc .23333333333a .1222222222. .112222233..
..2244777433. ..12........ 1222222222333 .3wwwwwwwwwwa ..22222233.. ..2222333...
....444443... ..2......... .33333333333. ..3333333333. ....33333... ....333.....

horse          wolf           cat            bird           pdragon        snake
..1........... .............. .............. .............. ..7........... .............
.1114......... .............. .1..1.......1. ....111....... ...77......... ...1112......
.11144........ ..1.1......... .11.12......12 ...11112...... ..1111....44.. ..111122.....
1#12244....... ..1112........ .111112.....12 ...1#122...... .11#112..4455. .11#1122.....
1112244....... .11122........ .1#1#122...12. 777112223..... 1111222.44555. a11112223....
112222544...44 .1#1222......1 .1111122...12. .7811222222... 112.12244555.. a.222.222....
.22.2222222245 1112222.111112 .14a4222..12.. ..1111224442.. .w..12245555.. .......222...
....1222222245 #112222222222. ..4422222122.. ..111124455522 ....1122455..1 .....11222...
....222222222. .2222222222222 ...222222222.. ..411244555222 ....1122225.12 ...11122223..
....222222222. ..4442222222.. ...4222222222. ..44124455522. ...41122222222 ..1122222....
....2233322223 ...442233222.. ...442222.222. ...44222222... ...4422222222. ..122244444.1
....22....22.. ...22.2..22... ...22.22.2222. ....4422223... ...442222222.. ..11222222222
....23....23.. ...22.2..22... ...22.22.222.. ......8.8..... ....22..22.... ...2222222223
....ff....ff.. ...44.4..44... ...44.44.44... .....88.88.... ...112.112.... ....33333333.

rabbit         snail          melon          bread         egg           fish
.....1..1..... .............. .............. ............. ............. ..............
.....1a.1a.... .............. .............. ............. ....1111..... ..............
.....1a.1a.... .......1112... .............. ...1111111... ..11111111... .....444......
.....12.12.... .....111.222.. 5............5 ..11122112211 .1111111111.. ....44455.....
....11122..... #.#..11222232. 511111111111.5 .111221122122 .111144411111 ...111111...44
...1111222.... 5.5.1112332222 51112#1111#125 .111211222222 11114w555111. .1111212211445
...1#11222.... 5.5.112322322. 5611#111112165 .122112212223 1112455555211 112112122224.5
..a1112222222. 4455112322322. .5112111#1215. .222222222223 .112455555211 11#12112122255
...1122222222. 4#5511223222.2 .56222#22226.5 ..4555555555. .122555556212 1222222222225.
....222222222. .4555122222.2. ..5622222265.. ..4555555556. ..22256662222 .233222222.455
....442222222w .45555222222.. ...46222264... ..4555555556. ..2222222222. ..33333322..55
....44222222ww ..4555555555.. ....46666.4... ..4555555566. ...22333332.. ....556.......
...22222.2222. ...5555555555. .....4444..... ..5566666666. .....3...3... .....6........
...222..22222. ....6666666666 .............. ............. ............. ..............

cake           crystal        comet          turtle         wand          pbeard
.............. ......12...... ...........1.1 .............. .........111. ...........
........8..... .....1123..... .........1.11. .............. ........1w112 ...........
.......878.... ....111223.... .......1.112.. .............. ........11122 .....bbbbb.
........9..... ....111223.... ......1112.11. ......11111... ........11222 ....abbbbbb
......11111... ....111223.... .....1122112.. .....1112112.. .......45222. ....abbbbbb
...1111111112. .1..111223..1. ..44411222.... .44.111211122. ......455.... ....b#bbbbb
.11111111122.2 .12.111223.12. .444552211.... 44441122222122 .....ee55.... ...ab#bbebb
.222222222222. .1121112231223 4w45552211.... 4#451222112222 ....eee...... ...eeeeeeb.
.233233233233. .1122112231223 44555622...... 44451112112223 ...eee....... ....eeeff..
.455555555556. ..112212232233 45555622...... .5553333333333 ..eee........ ...........
.888888888889. ..112222232233 45556......... ..555555555555 .eef......... ...........
.455555555556. ...1222222333. .5566......... ...455..455.5. .ff.......... ...........
.555555555566. ....22233333.. ..66.......... ...455...455.. ............. ...........

pfish        plong         phood         pface       pshort       pknight
............ ............. .......111... ........... ............ .......111..
.......44... .....ddddd... .....1111122. ........... .....ddddd.. ....4441112.
.....1144.4. ....dddddde.. ....111122222 .....bbbbb. ....dddddde. ....44444522
...111111455 ....ddeeeeee. ....11222222. ....abbbbbb ....ddeeeeee ....44455552
..111111224. ....e.eeeeeee ....2##22222. ....abbbbbb ....e.eeeeee ....44555555
..1w#1122245 ......eeeeeee ......#22222. ....b#bbbbb ......eeeeee ....####5555
.11##122222. .......eeeeee .......22222. ...ab#bbbbb .......eeeef ....55556555
.2222232233. .......eeeeee .......2222.. .....bbbbc. ........ff.. .....66655..
..333.22.... .......eeeeff ......22222.. ........... ............ ............

pviking       pwizard      pcrown       pninja         ptail          probin
....77....... .........111 ....7.7.7.7. .............. .............. ...........7.
.....774444.. .......1112. ....7777777. .....11111.... .....ddddd.... ......111.77.
......784445. ......1112.. ....8858588. ....1111222... ....dddddde77. ....11111178.
....4488455.5 .....55555.. ....ddeeeeee ....11222222.. ....ddeeee77ee ...111112228.
....66666666. ...111122222 ....e.eeeeee ....5555555555 ....e.eeeee.ee ..22222222222
......6eeee.. ..3333333333 ......eeeeee ....a#bb222.55 ......eeee..ee ......eeeee..
.......eeee.. ......eeeee. .......eeeef ....33322222.. .......eee.ee. .......eeef..
........ff... .......eee.. ........ff.. .....222223... ........f..f.. ........ff...
""",
    ),
    (
        "full",
        8,
        """
ptunic     probe        parmour    pdress       pcape
.....1222. .....1222... .....4445. .....1222... .....12244...
....112223 ....112223.. ....444556 ....b12223.. ....1122544..
...b122223 ...b122223.. ...b445556 ...b.122.3.. ...b1222554..
....55555. ....455553.. ....88888. ....45555... ....555555544
.....2223. ....1222223. ....45556. ...11222223. .....2223.55.
....66.66. ...112222233 ...455.556 ..1122222233 ....66.66....
""",
    ),
    (
        "small",
        0,
        """
bite bry  candle flag quiv feather spoon leafr leafl spark sprink
.~~~ .77. 8..... 44.. 7.8. 7...... ...8. .44.. 44... .7... 7..8..
~~~~ 7w88 7..... 455. 878. 77..... ..89. 445.. 5445. 778.. ..4...
~~~~ 7888 4..... 4... 5ee. .78.... .89.. .5... .55.. .8... 8..7..
.~~~ .89. 4..... 5... .ef. .98.... 89... ..... ..... ..... ......
""",
    ),
)

# name: slots, back to front / pools of the materials A B C S H / lines to leave out.
# In a slot | parts alternatives, - is nothing, ^2 is also 1 and 2 higher, >x,y a place.
# r5 may leave out row 5, c5 column 5, m5 column 5 and its mirror image.
RECIPES = """
hero
knight: caped armour face knight|open -|crest sword^2|spear -|round|kite / any metal
mage: caped robe face|beardy -|-|locks wizard staff -|orbl|tome / cloth gold any
archer: -|quiv>10,5|cape tunic face|elf short -|robin|hood bow / cloth wood steel
rogue: caped tunic face -|patch cowl|hood dagger^2 -|buckl / cloth wood steel
princess: dress face long tiara -|cross -|orbl
king: cape robe face|beardy short|long crown -|cross|sword^2 -|orbl
viking: caped fur beardy|face viking axe|sword^2 -|round|buckl / cloth metal bone
cleric: caped robe|gi face|bald mitre cross|mace -|tome|kite / cloth bone
ninja: gi|tunic face bandit katana|dagger^2 -|buckl / cloth cloth steel
samurai: caped armour|gi face kabuto katana|spear|bow
barbarian: caped bare face spiky|long -|band axe|club|sword^2 -|buckl / cloth wood steel
bard: caped tunic|coat face|elf short|long beret -|feather>2,0|feather>1,-1 lute
pirate: tunic|coat face|beardy short|long -|patch pirate sword / cloth cloth steel
dwarf: caped armour|fur dwarfb open|viking axe|mace -|round|buckl / cloth metal
monk: gi face|bald -|band -|staff|cross -|orbl
farmer: tunic|bare face|beardy short|long straw -|spear|axe
non-hero
slime: slime|kslime - - - - -|crown>0,4 / cloth / r12 m1 m2
bat: bat / cloth cloth any / r7 m1 m4
skull: skull -|horns|crown / pale / r8 m5
ghost: ghost -|crown / magic / r7 r9 m5
spider: spider / cloth cloth glow / r6 r9
eyeball: eyeball -|wingsb / cloth bone any / r3 r11 m2
mushroom man: shroom / cloth bone any skin / r5 r11 m2
goblin: caped tunic|fur gob club|dagger|spear -|round / cloth wood metal gob
golem: golem -|crest / stone leaf glow / r6 r9 m5
dragon: dragon -|wingsb>0,-2 / cloth cloth bone / r10 m3
devil: -|wings|wingsb bare devil -|spear|axe / cloth cloth glow gob
skeleton: bones skullhd -|open|horns|crown sword|bow|axe -|round / pale cloth steel
mummy: wrap mummy -|crown|cross -|cross|staff / pale
vampire: collar|cape coat vamp -|staff|dagger / cloth pale any pale
cyclops: bare|fur oneeye -|horns club|axe|mace -|round / cloth wood bone gob
mimic: mimic / wood metal gold pink wood / r5 r11 m3 m4
treant: treant / leaf leaf glow skin wood / r4 r9 m3
octopus: octopus -|crown / cloth / r4 r9 m5
snapper: plant / cloth leaf bone pink / r9 m2
robot: robot / metal metal glow / r10 m5
jack-o'-lantern: robe|coat|tunic pumpkin -|staff|axe|club / cloth cloth orange skin leaf
food
apple: apple leaves -|bite>11,5|bite>11,7 / fruit leaf pink skin wood / r9 r6 m4 m2
pear: pear leaves / fruit leaf gold skin wood / r5 r9 m3 m5
cherries: cherry -|leafr>1,1 / fruit leaf any / r4 r5 c6
grapes: grapes leaves / fruit leaf / r4 r7 c2 c5
banana: banana / gold cloth gold skin wood / r5 r7 r11 c8 c4 c2
strawberry: berry leaves / fruit leaf lemon / r7 m4 m2
melon: melon / warm leaf / r5 r6 r9 c3 c4 c9
bread: bread / bread tan bone / r11 r6 r9 c5 c9 c3
cheese: cheese -|bite>10,6|bite>11,9 / gold / r10 r12 c4
fried egg: egg / bone gold / r3 r10 r11 c10 c2 c5
drumstick: drumstick -|leafr>4,10 / bread bone bone / r5 r8 c8 c6
fish: fish -|leafr>5,9 / metal cloth / r9 c5 c6
cake: cake -|bry>7,1|candle>6,0 / cloth skin any / r8 r11 c4 c10
cupcake: cupcake -|sprink>4,5|sprink>6,4 / cloth cloth any / r11 r7 m4 m2
donut: donut -|sprink>2,4|sprink>8,3 -|bite>11,3 / cloth skin any / r9 r4 m4 m2
ice cream: icecone -|flag>8,0|candle>8,0 -|sprink>4,3 / cloth skin any / r5 r11 m4
pizza: pizza -|bite>11,3|bite>10,4 / gold skin warm / r7 r4 m4
burger: burger -|flag>6,-1 / leaf bread warm / r5 r10 m3 m4
soup: soup -|spoon>10,1|spoon>9,2|spoon>3,2 / cloth metal bone / r11 m3
spell
fireball: flame lt rt / any gold / r6 r9 c5
ice: crystal lt rt / ice cloth magic / r3 r11 c6
lightning: bolt lt rb / any cloth magic / r2 r9 c7
crystal ball: orb lt rt rb / magic metal magic / r6 r9 c3 c4
star: star lt rt / magic cloth magic / r7 r10 m3
potion: potion lt rt / magic steel magic skin wood / r5 r10 m3
gem: gem lt rt lb rb / magic cloth magic / r4 r8 m3
heart: heart lb rb / magic cloth magic / r5 r9 m3
sun: sun / magic cloth magic / r5 m3
ring: ring lt rt / magic metal magic / r7 r9 m4
rune: rune lt rt / glow stone / r2 r12 m3
scroll: scroll lb / bread cloth any tan / r6 r8 c5
spellbook: book lt rb / magic metal gold bone / r4 r9 c5
wand: wand lt rb / magic cloth magic skin wood / r9 c4
moon: moon -|spark>8,2|spark>9,4 -|spark>7,6 / magic cloth magic / r6 r4 c5
comet: comet lt rb / magic cloth magic / r5 c7
bomb: bomb lt rb / stone metal magic skin wood / r9 c5
side-facing
knight: parmour|pcape pface pknight psword^2|pspear|pshield / cloth metal
mage: probe pface|pbeard pwizard pstaff|psword^2
archer: ptunic|pcape pface pshort|plong|ptail -|probin|phood pbow / cloth cloth steel
viking: ptunic|parmour pface|pbeard pviking psword^2|pspear|pshield / cloth cloth bone
ninja: ptunic pface pninja psword^2|pspear / cloth cloth steel
princess: pdress pface plong|ptail pcrown|- -|pstaff
king: probe|pcape pface|pbeard pcrown -|pstaff|psword^2
fish-man: ptunic|parmour|probe pfish pspear|pstaff|pshield / cloth cloth gold gob
horse: horse / fur hair bone skin wood / r8 r12 c7 c9
wolf: wolf / stone bone bone / r8 r10 c7 c9
cat: cat / fur bone bone pink / r9 c6
bird: bird / cloth / r9 c7
dragon: pdragon / cloth cloth bone / r9 c8 c6
snake: snake / cloth cloth bone red / r7 c5
rabbit: rabbit / fur bone bone pink / r1 r10 c8
snail: snail / cloth skin / r5 c8
turtle: turtle / cloth leaf / r11 c8
"""


class Archetype(NamedTuple):
    """One recipe, ready to compose: `slots` are stacks of parts (2, n, 16, 16)."""

    name: str
    slots: list[np.ndarray]
    pools: list[np.ndarray]  # five arrays of ramp numbers
    rows: np.ndarray  # (choices, 16): rows to show, all of them or all but one
    cols: np.ndarray


def _place(art, x, y):
    """A part (h, w) of roles at x, y of an empty canvas; what sticks out is cut off."""
    canvas = np.zeros((3 * SIZE, 3 * SIZE), np.uint8)
    canvas[SIZE + 1 + y :, SIZE + 1 + x :][: art.shape[0], : art.shape[1]] = art
    return np.pad(canvas[SIZE + 1 : 2 * SIZE - 1, SIZE + 1 : 2 * SIZE - 1], 1)


@cache
def _parts():
    """Every part by name: (side, top, roles (h, w)). It lies below its name."""
    parts = {"-": ("small", 0, np.zeros((1, 1), np.uint8))}
    for side, top, sheet in SHEETS:
        for band in sheet.strip("\n").split("\n\n"):
            names, *lines = band.split("\n")
            names = [(name.start(), name[0]) for name in re.finditer(r"\S+", names)]
            ends = [at - 1 for at, _ in names[1:]] + [len(lines[0])]
            for (at, name), end in zip(names, ends, strict=True):
                roles = [[*map(LEGEND.index, line[at:end])] for line in lines]
                parts[name] = side, top, np.array(roles, np.uint8)
    return parts


def _options(slot, flip):
    """The parts (options, 16, 16) of one slot, such as `-|sword^2|spark>3,1`."""
    stack = []
    for option in SLOTS.get(slot, slot).split("|"):
        name, _, at = option.partition(">")
        name, _, lift = name.partition("^")
        side, top, art = _parts()[name]
        x, y = map(int, at.split(",")) if at else (0, 0)
        if side == "half":  # light from the left, also when the whole gets flipped
            x += 7 - art.shape[1]
            art = np.hstack([art, np.where(art == FIRST, FIRST + 1, art)[:, ::-1]])
            art = art[:, ::-1] if flip else art
        elif side == "right":
            art, x = art[:, ::-1], 14 - art.shape[1]
        lift = int(lift or side in ("left", "right"))
        stack += [_place(art, x, y + top - up) for up in range(lift + 1)]
    return np.array(stack)


def _drops(letters, cuts):
    """Index arrays (choices, 16) that show all lines, or all but the named ones."""
    choices = [np.arange(SIZE)]
    for cut in cuts:
        if cut[0] not in letters:
            continue
        lines, k = np.arange(SIZE), int(cut[1:]) + 1
        lines[: k + 1] = np.r_[0, :k]
        if cut[0] == "m":  # the mirrored column goes too
            lines[SIZE - 1 - k :] = np.r_[SIZE - k : SIZE, SIZE - 1]
        choices.append(lines)
    return np.array(choices)


@cache
def _archetypes():
    """Class name -> tuple of Archetype."""
    order = {name: i for i, name in enumerate(RAMPS)}
    found = {}
    for line in RECIPES.strip().split("\n"):
        if ":" not in line:
            found[line] = ()
            continue
        name, _, recipe = line.partition(":")
        fields = [field.split() for field in recipe.split("/")]
        slots, pools, cuts = fields + [[], ["r10", "r12"]][len(fields) - 1 :]
        pools += ["cloth", "cloth", "gold", "skin", "hair"][len(pools) :]
        slots = [np.stack([_options(slot, f) for f in (0, 1)]) for slot in slots]
        pools = [np.array([order[r] for r in POOLS.get(p, (p,))]) for p in pools]
        kind = Archetype(name, slots, pools, _drops("r", cuts), _drops("cm", cuts))
        found[[*found][-1]] += (kind,)
    return found


def _pick(die, sides):
    """A fair choice in 0..sides-1 from 16 random bits."""
    return (die * sides) >> 16


def _compose(kind, dice):
    """Roles (m, 16, 16) without outline, and ramp numbers (m, 5), of one archetype."""
    flip, dy, dx, row, col = dice.T[2:7]
    flip = _pick(flip, 2)
    canvas = np.zeros((len(dice), SIZE, SIZE), np.uint8)
    for slot, die in zip(kind.slots, dice.T[12:], strict=False):
        part = slot[flip, _pick(die, slot.shape[1])]
        canvas = np.where(part, part, canvas)
    canvas[canvas == RUB_OUT] = EMPTY
    rows = kind.rows[_pick(row, len(kind.rows))]
    cols = kind.cols[_pick(col, len(kind.cols))]
    cols = np.where(flip[:, None], cols[:, ::-1], cols)
    rows = _centre(canvas.any(2), rows, _pick(dy, 3) - 1)
    cols = _centre(canvas.any(1), cols, _pick(dx, 3) - 1)
    every = np.arange(len(dice))[:, None, None]
    canvas = canvas[every, rows[:, :, None], cols[:, None, :]]

    ramps = np.zeros((len(kind.pools), len(dice)), np.int64)
    for k, pool in enumerate(kind.pools):
        choice = _pick(dice[:, 7 + k], len(pool))
        ramps[k] = pool[choice]
        for step in (3, 5, 7):  # go on in the pool while a neighbour is taken already
            taken = (abs(ramps[:k] - ramps[k]) <= 2).any(0)
            ramps[k] = np.where(taken, pool[(choice + step) % len(pool)], ramps[k])
    return canvas, ramps.T


def _centre(filled, lines, jitter):
    """Shift the index arrays `lines` (m, 16) so that what is filled lies central."""
    seen = np.take_along_axis(filled, lines, 1)
    low, high = seen.argmax(1), SIZE - 1 - seen[:, ::-1].argmax(1)
    shift = np.clip((SIZE - 1 - low - high) // 2 + jitter, 1 - low, SIZE - 2 - high)
    at = np.clip(np.arange(SIZE) - shift[:, None], 0, SIZE - 1)
    return np.take_along_axis(lines, at, 1)


def _outline(canvas):
    """Add the dark outline and shade the right-hand edges, in place."""
    filled = canvas > EMPTY
    solid = canvas > DARK  # what is drawn dark stays a thin line
    near = np.zeros_like(filled)
    near[:, 1:] |= solid[:, :-1]
    near[:, :-1] |= solid[:, 1:]
    near[:, :, 1:] |= solid[:, :, :-1]
    near[:, :, :-1] |= solid[:, :, 1:]
    edge = filled.copy()  # filled, more of it to the left, nothing to the right
    edge[:, :, 1:-1] &= filled[:, :, :-2] & ~filled[:, :, 2:]
    edge &= (canvas >= FIRST) & ((canvas - FIRST) % 3 < 2)
    canvas += edge
    canvas[near & ~filled] = DARK


def _colour(canvas, ramps):
    """Roles (n, 16, 16) and ramp numbers (n, 5) to RGB (n, 16, 16, 3)."""
    table = np.array(list(RAMPS.values()), np.uint8)
    palette = np.empty((len(canvas), RUB_OUT, 3), np.uint8)
    palette[:, EMPTY] = 255
    palette[:, DARK] = table[ramps[:, 0], 2] // 16 * 5
    palette[:, SHINE] = 244, 244, 240
    palette[:, FIRST:] = table[ramps].reshape(len(canvas), 15, 3)
    return palette[np.arange(len(canvas))[:, None, None], canvas]


def _draw(kinds, which, dice):
    """Draw sprite i as `kinds[which[i]]` with the throws `dice[i]` (24 of 16 bits)."""
    canvas = np.empty((len(dice), SIZE, SIZE), np.uint8)
    ramps = np.empty((len(dice), 5), np.int64)
    order = np.argsort(which, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        canvas[group], ramps[group] = _compose(kinds[which[group[0]]], dice[group])
    _outline(canvas)
    return _colour(canvas, ramps)


def _throw(n, seed):
    """Numbers of 16 bits (n, 24), int64; row i is the same for any n."""
    if isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 1:
        raise ValueError(f"n is {n!r}: give an int, how many, at least 1")
    whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed!r}: give an int from 0 to 2**64 - 1")
    raw = np.random.PCG64(int(seed)).random_raw(6 * int(n)).reshape(n, 6, 1)
    pieces = raw >> np.array([0, 16, 32, 48], np.uint64) & np.uint64(0xFFFF)
    return pieces.reshape(n, 24).astype(np.int64)


def draw_sprites(n, seed):
    """Draw n sprites of the five classes, equally likely.

    Returns images (n, 16, 16, 3) uint8 RGB on white, and one-hot labels (n, 5) float32
    in the order of SPRITE_CLASSES. Sprite i depends on seed and i alone. Raises
    ValueError unless n is an int >= 1 and seed an int in 0..2**64-1.
    """
    dice = _throw(n, seed)
    classes = _pick(dice[:, 0], len(SPRITE_CLASSES))
    sizes = np.array([len(names) for names in ARCHETYPES.values()])
    which = np.r_[0, sizes.cumsum()][classes] + _pick(dice[:, 1], sizes[classes])
    kinds = [kind for name in SPRITE_CLASSES for kind in _archetypes()[name]]
    images = np.empty((n, SIZE, SIZE, 3), np.uint8)
    for start in range(0, n, 8192):
        part = slice(start, start + 8192)
        images[part] = _draw(kinds, which[part], dice[part])
    return images, np.eye(len(SPRITE_CLASSES), dtype=np.float32)[classes]


def draw_archetype(name, n, seed):
    """Draw n sprites of one archetype: "apple", or "hero/mage" where two share a name.

    Returns (n, 16, 16, 3) uint8. Raises ValueError for an unknown name, n or seed.
    """
    dice = _throw(n, seed)
    kinds = [
        kind
        for label, group in _archetypes().items()
        for kind in group
        if name in (kind.name, f"{label}/{kind.name}")
    ]
    if not kinds:
        raise ValueError(f"name is {name!r}: give one of ARCHETYPES, {ARCHETYPES}")
    return _draw(kinds[:1], np.zeros(n, np.int64), dice)


ARCHETYPES = {
    label: tuple(kind.name for kind in group) for label, group in _archetypes().items()
}
