/* to be written */
typedef int translation_unit_is_not_empty;
