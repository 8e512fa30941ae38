"""Clock, errors, opaque tokens, identifiers, events and the principal: what every floor uses."""
