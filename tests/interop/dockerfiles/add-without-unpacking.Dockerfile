FROM base
ADD --unpack=false tar/plain.tar /x/
ADD --unpack=true tar/packed.gz /y/
