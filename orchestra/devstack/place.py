"""The checks before a stack is created: whatever is refused is refused before anything is on disk."""

from orchestra.devstack.choice import choose
from orchestra.devstack.folder import DataFolder
from orchestra.devstack.options import StackOptions
from orchestra.devstack.ports import until_free


async def make_folder(options: StackOptions) -> DataFolder:
    """The stack's folder, ready for use. It is not created if one of the ports is taken.

    Raises ``PortTakenError``, ``FolderRefusedError`` and ``OSError``.
    """
    folder = DataFolder.at(options.data)
    if not folder.is_stack():
        model = (await choose()).provider == "embedded"
        await until_free(options.ports.needed(options.gateways, model=model))
    folder.create()
    return folder
