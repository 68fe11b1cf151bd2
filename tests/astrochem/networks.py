"""Small networks of a user's own, written as the two tables."""

from pathlib import Path

from sciml.astrochem.generate.checks import check_network
from sciml.astrochem.generate.network import Network, read_network

SPECIES = """name,mass_amu,charge,phase,binding_energy_K,H,O
H,1,0,gas,0,1,0
H2,2,0,gas,0,2,0
O,16,0,gas,0,0,1
OH,17,0,gas,0,1,1
O+,16,1,gas,0,0,1
E-,0,-1,gas,0,0,0
"""
ICE = """#H,1,0,surface,600,1,0
#O,16,0,surface,1600,0,1
#OH,17,0,surface,4600,1,1
@H,1,0,bulk,600,1,0
@O,16,0,bulk,1600,0,1
@OH,17,0,bulk,4600,1,1
"""
HEAD = "type,r1,r2,p1,p2,p3,p4,alpha,beta,gamma,tmin,tmax\n"
THREE_PHASES = """FREEZE,H,,#H,,,,1,0,0,0,10000
FREEZE,O,,#O,,,,1,0,0,0,10000
THERM,#H,,H,,,,1,0,600,0,10000
DEUVCR,#O,,O,,,,1,0,1600,0,10000
LH,#H,#O,#OH,,,,1,0,0,0,10000
LH,@H,@O,@OH,,,,1,0,0,0,10000
ER,H,#O,#OH,,,,1,0,300,0,10000
SURFSWAP,#H,,@H,,,,1,0,0,0,10000
SURFSWAP,#O,,@O,,,,1,0,0,0,10000
SURFSWAP,#OH,,@OH,,,,1,0,0,0,10000
BULKSWAP,@H,,#H,,,,1,0,0,0,10000
BULKSWAP,@O,,#O,,,,1,0,0,0,10000
BULKSWAP,@OH,,#OH,,,,1,0,0,0,10000
"""


def write_tables(folder: Path, reactions: str, species: str = SPECIES) -> tuple[Path, Path]:
    network, table = folder / "net.csv", folder / "species.csv"
    network.write_text(HEAD + reactions)
    table.write_text(species)
    return network, table


def make_network(folder: Path, reactions: str, species: str = SPECIES) -> Network:
    network = read_network(*write_tables(folder, reactions, species))
    check_network(network)
    return network
