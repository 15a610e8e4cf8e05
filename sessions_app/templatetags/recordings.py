"""For the template of the player, which any page of a call may include."""

from django import template
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from sessions_app.models import VoiceSession
from sessions_app.recording import Player, player

register = template.Library()


@register.simple_tag
def player_for(user: AbstractBaseUser | AnonymousUser, session: VoiceSession) -> Player | None:
    """`{% player_for request.user call as player %}`: None where there is nothing to be played."""
    return player(user, session)
