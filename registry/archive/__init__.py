"""Archives that strangers made, read once from front to back; and the tar format to the byte, for those that we make.

Gives:    tarformat (headers), reader.TarReader (entries and their content), unpacking.unpacked() (gzip, zstd, …).
Takes:    streams; nothing here knows a layer, an image or a build context.
Promises: no archive costs more memory than a chunk and a long name, more work than its length, or more room than the
          limits it is read with; whatever is wrong is an ArchiveError.
Not here: where entries go; whoever unpacks must see to it that no name leads out.
"""

AGAIN = "make or fetch the archive again"
HARM = "this archive was made to do harm"
