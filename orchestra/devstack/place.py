"""Where a stack is about to be: what is refused there is refused before anything is on the disk."""

from orchestra.devstack.choice import choose
from orchestra.devstack.folder import DataFolder
from orchestra.devstack.options import Options
from orchestra.devstack.ports import until_free


async def make_folder(options: Options) -> DataFolder:
    """The stack's folder, ready for use; a new one is not made for a stack whose ports are taken.

    Raises ``PortTakenError``, ``FolderRefusedError`` and ``OSError``.
    """
    folder = DataFolder.at(options.data)
    if not folder.is_stack():
        model = (await choose()).provider == "embedded"
        await until_free(options.ports.needed(options.gateways, model=model))
    folder.create()
    return folder
