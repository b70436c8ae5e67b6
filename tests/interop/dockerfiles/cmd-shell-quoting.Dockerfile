FROM base
CMD   echo  "two  blanks"   'x' \
   more # not a comment
ENTRYPOINT  [ "a" ]  
