"""The platform's API as the engine uses it: addresses, credentials, calls, answers, waits.

``client`` alone knows kagglesdk and the network (extra ``kaggle``); ``connection`` asks through it, or through a stand-in of it.
"""
