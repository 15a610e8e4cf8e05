from django.urls import path

from sessions_app import views

urlpatterns = [
    path("", views.talk, name="talk"),
    path("sessions/", views.start_session, name="session-start"),
    path("sessions/<uuid:session_id>/events/", views.record_events, name="session-events"),
]
