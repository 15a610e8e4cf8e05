from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from sessions_app import views

urlpatterns = [
    path("", views.index, name="talk"),
    path("agents/<uuid:agent_id>/", views.talk, name="agent"),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("sessions/", views.start_session, name="session-start"),
    path("sessions/<uuid:session_id>/events/", views.record_events, name="session-events"),
]
